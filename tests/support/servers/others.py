"""Servers other than gunicorn, at a free port: uWSGI, ASGI servers, ``flask run``."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flask_chatstop.testing import wait_until
from tests.support.paths import ROOT
from tests.support.servers.gunicorn import Server
from tests.support.servers.redis import free_port

#: The commands that the servers' packages have installed.
COMMANDS = Path(sys.executable).parent
APP = "tests.support.small_app:create_app()"


@contextmanager
def serving(tmp_path: Path, *command: str, **environ: str) -> Iterator[Server]:
    """Run a server for the length of a with block.

    :param command: with ``{port}`` in place of the port.
    :param environ: for the app.
    """
    port = free_port()
    log = tmp_path / f"{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [part.replace("{port}", str(port)) for part in command],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environ},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = Server(f"http://127.0.0.1:{port}", log, process)
    try:
        wait_until(lambda: _accepts(server, port), 30)
        yield server
    finally:
        server.close()
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()


def _accepts(server: Server, port: int) -> bool:
    assert server.process.poll() is None, server.log.read_text()
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True

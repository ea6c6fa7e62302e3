"""Servers other than gunicorn, at a free port: uWSGI, ASGI servers, ``flask run``."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.paths import ROOT
from tests.support.servers.gunicorn import Server, end
from tests.support.servers.ports import free_port
from tests.support.servers.starting import wait_until_ready

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
        wait_until_ready(process, lambda: _accepts(port), log)
        yield server
    finally:
        server.close()
        end(process)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True

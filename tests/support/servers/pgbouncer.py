"""A PgBouncer of a test's own, which gives each transaction another connection."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from tests.support.servers.ports import free_port
from tests.support.servers.starting import wait_until_ready

#: How many connections to the server each database has.
POOL_SIZE = 4


@contextmanager
def pgbouncer(server_url: str, **settings: str) -> Iterator[str]:
    """Run PgBouncer in front of a database, and give the URL of the way through it.

    :param settings: of its configuration file.
    """
    binary = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if binary is None:
        pytest.skip("no PgBouncer is installed here")
    # It refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else None
    port = free_port()
    url = make_url(server_url)
    server = {"host": url.host, "port": url.port or 5432, "user": url.username}
    if url.password:
        server["password"] = url.password
    lines = [
        "[databases]",
        f"{url.database} = {' '.join(f'{k}={v}' for k, v in server.items())}",
        "[pgbouncer]",
        *("listen_addr = 127.0.0.1", f"listen_port = {port}", "unix_socket_dir ="),
        *("auth_type = any", "pool_mode = transaction"),
        f"default_pool_size = {POOL_SIZE}",
        # Or it would give the same connection again as long as few are in use.
        "server_round_robin = 1",
        *(f"{name} = {value}" for name, value in settings.items()),
    ]
    folder = Path(tempfile.mkdtemp(prefix="chatstop-pgbouncer-"))
    file = folder / "pgbouncer.ini"
    file.write_text("\n".join(lines) + "\n")
    if user:
        shutil.chown(folder, user)
        shutil.chown(file, user)
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [binary, "-q", file], user=user, stderr=output, cwd="/"
        )
    try:
        wait_until_ready(process, lambda: _answers(port), log)
        pooled = url.set(
            drivername="postgresql",
            host="127.0.0.1",
            port=port,
            username="postgres",
            password=None,
        ).render_as_string()
        _fill(pooled)
        yield pooled
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def _answers(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _fill(url: str) -> None:
    """Have the pool open all its connections, so that it has some to choose from."""
    with ExitStack() as stack:
        for _ in range(POOL_SIZE):
            stack.enter_context(psycopg.connect(url)).execute("SELECT 1")

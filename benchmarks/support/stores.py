"""A place of its own in every store, for the length of a measurement."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from flask_chatstop.backends.database import DatabaseBackend
from tests.support.servers.database_fixtures import running, scratch_database
from tests.support.servers.mariadb import HAS_SERVER as MARIADB_IS_HERE
from tests.support.servers.mariadb import MariaDBServer
from tests.support.servers.postgresql import PostgreSQLServer
from tests.support.servers.redis import HAS_SERVER, RedisServer
from tests.support.servers.redis_fixtures import REDIS_URL

_SERVERS: dict[str, tuple[str, type[PostgreSQLServer] | type[MariaDBServer]]] = {
    "PostgreSQL": ("CHATSTOP_TEST_POSTGRESQL_URL", PostgreSQLServer),
    "MariaDB": ("CHATSTOP_TEST_MARIADB_URL", MariaDBServer),
}
DATABASES = ("SQLite", *_SERVERS)
#: The stores that processes can share.
STORES = (*DATABASES, "Redis")


@contextmanager
def store(name: str) -> Iterator[str]:
    """Give the URL of a store that is empty, and has its table.

    A PostgreSQL database is made on the server that the environment names, or that
    listens at the standard port; where there is none, and for Redis and MariaDB, a
    server is started. That of MariaDB does not wait for the disk, as no other store
    does that is measured.
    """
    with ExitStack() as stack:
        if name == "Redis" and not HAS_SERVER:
            yield REDIS_URL
        elif name == "Redis":
            server = RedisServer(_folder(stack))
            stack.callback(server.kill)
            yield server.url
        elif name == "SQLite":
            url = f"sqlite:///{_folder(stack)}/chatstop.db"
            backend = DatabaseBackend(url)
            backend.create_table()
            backend.close()
            yield url
        elif name == "MariaDB" and MARIADB_IS_HERE:
            yield stack.enter_context(contextmanager(running)(MariaDBServer())).url
        elif name in _SERVERS:
            yield stack.enter_context(_database(name))
        else:
            yield "memory://"


@contextmanager
def _database(name: str) -> Iterator[str]:
    variable, own_server = _SERVERS[name]
    with ExitStack() as stack:
        try:
            url = stack.enter_context(contextmanager(scratch_database)(variable))
        except pytest.skip.Exception:
            server = own_server()
            stack.enter_context(contextmanager(running)(server))
            url = server.url
        yield url


def _folder(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory()))

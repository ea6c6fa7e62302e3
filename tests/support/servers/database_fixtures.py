"""Databases for tests, on the servers that the environment names."""

import os
import uuid
from collections.abc import Iterator
from typing import TypeVar

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from flask_chatstop.backends.database import DatabaseBackend
from tests.support.servers.mariadb import MariaDBServer
from tests.support.servers.postgresql import PostgreSQLServer

SERVERS = {
    "CHATSTOP_TEST_POSTGRESQL_URL": "postgresql+psycopg://postgres@127.0.0.1/test",
    "CHATSTOP_TEST_MARIADB_URL": "mysql+pymysql://root@127.0.0.1/test",
}


def scratch_database(variable: str) -> Iterator[str]:
    """Make a database of its own on a server, and drop it in the end."""
    url = make_url(os.environ.get(variable) or SERVERS[variable])
    name = f"chatstop_{uuid.uuid4().hex}"
    admin = create_engine(
        url, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 5}
    )
    try:
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
    except DBAPIError as error:
        admin.dispose()
        pytest.skip(f"no server at {variable}: {error.orig}")
    own = url.set(database=name).render_as_string(hide_password=False)
    backend = DatabaseBackend(own)
    backend.create_table()
    backend.close()
    yield own
    force = " WITH (FORCE)" if url.get_backend_name() == "postgresql" else ""
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name}{force}"))
    admin.dispose()


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    yield from scratch_database("CHATSTOP_TEST_POSTGRESQL_URL")


@pytest.fixture(scope="session")
def mariadb_url() -> Iterator[str]:
    yield from scratch_database("CHATSTOP_TEST_MARIADB_URL")


S = TypeVar("S", bound=PostgreSQLServer | MariaDBServer)


def running(server: S) -> Iterator[S]:
    """Run a server that has the table."""
    try:
        server.start()
        backend = DatabaseBackend(server.url)
        backend.create_table()
        backend.close()
        yield server
    finally:
        server.remove()


def well_again(server: S) -> Iterator[S]:
    """Give a server that a test may stop and hang; it is well again after it."""
    yield server
    if server.process.poll() is None:
        server.go_on()
    else:
        server.start()


@pytest.fixture(scope="session")
def own_postgresql_server() -> Iterator[PostgreSQLServer]:
    yield from running(PostgreSQLServer())


@pytest.fixture
def own_postgresql(
    own_postgresql_server: PostgreSQLServer,
) -> Iterator[PostgreSQLServer]:
    yield from well_again(own_postgresql_server)


@pytest.fixture(scope="session")
def own_mariadb_server() -> Iterator[MariaDBServer]:
    yield from running(MariaDBServer())


@pytest.fixture
def own_mariadb(own_mariadb_server: MariaDBServer) -> Iterator[MariaDBServer]:
    yield from well_again(own_mariadb_server)

"""Stores of the tests' own, and the app as eight workers on a shared one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.deployment import Deployment, deployment
from tests.faults.stores import (
    DatabaseStore,
    PostgreSQLStore,
    RedisStore,
    RingingStore,
    Store,
)
from tests.support.servers.mariadb import MariaDBServer
from tests.support.servers.postgresql import PostgreSQLServer
from tests.support.servers.redis import RedisServer


@pytest.fixture
def redis_store(server: RedisServer) -> RedisStore:
    return RedisStore(server)


@pytest.fixture
def postgresql_store(own_postgresql: PostgreSQLServer) -> PostgreSQLStore:
    return PostgreSQLStore(own_postgresql)


@pytest.fixture
def mariadb_store(own_mariadb: MariaDBServer) -> DatabaseStore:
    return DatabaseStore(own_mariadb)


@pytest.fixture(params=["redis_store", "postgresql_store", "mariadb_store"])
def store(request: pytest.FixtureRequest) -> Store:
    store: Store = request.getfixturevalue(request.param)
    return store


@pytest.fixture(params=["redis_store", "postgresql_store"])
def ringing_store(request: pytest.FixtureRequest) -> RingingStore:
    store: RingingStore = request.getfixturevalue(request.param)
    return store


@pytest.fixture(scope="package", params=["sqlite", "postgresql", "redis"])
def eight_workers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """Run the app as eight workers, which is what eight pods of one are."""
    directory: Path = tmp_path_factory.mktemp("deployment")
    if request.param == "sqlite":
        url = f"sqlite:///{directory}/chatstop.db"
    else:
        url = request.getfixturevalue(f"{request.param}_url")
    with deployment(directory, url, "--workers", "8", HEARTBEAT="0.5") as chat:
        yield chat

"""Connections that lead to the wrong server, or to a table as it was."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from flask_chatstop import BackendError, EndReason, StopBackend, StopOutcome
from flask_chatstop.backends.database import DatabaseBackend
from flask_chatstop.backends.redis import RedisBackend
from flask_chatstop.testing import ALICE, new_record, new_worker, wait_until
from tests.support.resetting_proxy import ResettingProxy
from tests.support.servers.database_fixtures import running
from tests.support.servers.mariadb import MariaDBServer
from tests.support.servers.postgresql import PostgreSQLServer
from tests.support.servers.redis import RedisServer
from tests.support.worker_under_test import at_once

Open = Callable[..., DatabaseBackend]


@dataclass
class Swapped:
    """A backend whose connections lead to a server that ceases to be the primary.

    :param swap: makes another server the primary, behind the same address.
    """

    backend: StopBackend
    swap: Callable[[], None]


@contextmanager
def on_redis(tmp_path: Path) -> Iterator[Swapped]:
    with ExitStack() as stack:
        old, new = RedisServer(tmp_path), RedisServer(tmp_path)
        for server in (old, new):
            stack.callback(server.kill)
        proxy = stack.enter_context(ResettingProxy(old.port))

        def swap() -> None:
            proxy.redirect(new.port)
            old.ask("REPLICAOF", "127.0.0.1", str(new.port))

        url = f"redis://127.0.0.1:{proxy.port}/0"
        yield Swapped(stack.enter_context(closing(RedisBackend(url))), swap)


@contextmanager
def on_mariadb(old: MariaDBServer) -> Iterator[Swapped]:
    with ExitStack() as stack:
        new = stack.enter_context(contextmanager(running)(MariaDBServer()))
        for server in (old, new):
            # root may write to a server that is read-only.
            execute(server.url, "CREATE OR REPLACE USER chat@'127.0.0.1'")
            execute(server.url, "GRANT ALL ON mysql.* TO chat@'127.0.0.1'")
        stack.callback(execute, old.url, "SET GLOBAL read_only = 0")
        proxy = stack.enter_context(ResettingProxy(old.port))

        def swap() -> None:
            proxy.redirect(new.port)
            execute(old.url, "SET GLOBAL read_only = 1")

        url = f"mysql://chat@127.0.0.1:{proxy.port}/mysql"
        yield Swapped(stack.enter_context(closing(DatabaseBackend(url))), swap)


@contextmanager
def on_postgresql(url: str) -> Iterator[Swapped]:
    name = make_url(url).database
    execute(url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    writing = "SET default_transaction_read_only = off"
    with closing(DatabaseBackend(url)) as backend:

        def swap() -> None:
            # For the sessions to come: those that are open are as of a standby.
            reset = f"ALTER DATABASE {name} RESET default_transaction_read_only"
            execute(url, f"{writing}; {reset}")

        yield Swapped(backend, swap)


def execute(url: str, statements: str) -> None:
    engine = create_engine(make_url(url), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements.split("; "):
            connection.execute(text(statement))
    engine.dispose()


@pytest.fixture(params=["redis", "mariadb", "postgresql"])
def swapped(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Swapped]:
    if request.param == "redis":
        opened = on_redis(tmp_path)
    elif request.param == "mariadb":
        opened = on_mariadb(request.getfixturevalue("own_mariadb"))
    else:
        opened = on_postgresql(request.getfixturevalue("postgresql_url"))
    with opened as swapped:
        yield swapped


@contextmanager
def listening_once(backend: StopBackend, worker_id: str) -> Iterator[threading.Thread]:
    """Listen in a thread, which ends with the listening."""
    begun, closing = threading.Event(), threading.Event()
    arguments = worker_id, list, lambda _: begun.set(), closing
    thread = threading.Thread(target=backend.listen, args=arguments)
    thread.start()
    try:
        assert begun.wait(5)
        yield thread
    finally:
        closing.set()
        thread.join()


def test_a_call_to_a_server_that_is_no_longer_the_primary_goes_to_the_new_one(
    swapped: Swapped, caplog: pytest.LogCaptureFixture
) -> None:
    backend, record = swapped.backend, new_record()
    at_once(*[lambda: backend.stops(new_worker(), ["x"])] * 5)
    swapped.swap()
    assert backend.announce(record) is True
    assert backend.stop(record.task_id, ALICE) is StopOutcome.STOPPING
    at_once(*[lambda: backend.announce(new_record())] * 5)
    backend.renew([record])
    backend.end(record, EndReason.STOPPED)
    backend.check()
    # All connections were dropped with the first one, and an operator can read it.
    [line] = [x for x in caplog.messages if "Opened new connections" in x]
    assert "read" in line.lower()


@pytest.mark.parametrize("swapped", ["redis", "postgresql"], indirect=True)
def test_a_listener_leaves_a_server_that_is_no_longer_the_primary(
    swapped: Swapped,
) -> None:
    with listening_once(swapped.backend, new_worker()) as thread:
        swapped.backend.stops(new_worker(), ["x"])
        swapped.swap()
        swapped.backend.announce(new_record())
        wait_until(lambda: not thread.is_alive(), 5)


def test_a_server_that_stays_read_only_is_named(
    own_mariadb: MariaDBServer, open_backend: Open
) -> None:
    execute(own_mariadb.url, "CREATE OR REPLACE USER chat@'127.0.0.1'")
    execute(own_mariadb.url, "GRANT ALL ON mysql.* TO chat@'127.0.0.1'")
    backend = open_backend(own_mariadb.url.replace("root", "chat"))
    execute(own_mariadb.url, "SET GLOBAL read_only = 1")
    with pytest.raises(BackendError, match="read-only"):
        backend.announce(new_record())
    execute(own_mariadb.url, "SET GLOBAL read_only = 0")
    assert backend.announce(new_record()) is True


MIGRATIONS = [
    "ALTER TABLE chatstop_task ALTER COLUMN {} TYPE text",
    "ALTER TABLE chatstop_task ALTER COLUMN {} TYPE varchar(255)",
]


@pytest.mark.parametrize("by_engine", [False, True])
def test_a_migration_under_a_running_worker_breaks_no_connection(
    own_postgresql: PostgreSQLServer, open_backend: Open, by_engine: bool
) -> None:
    engine = create_engine(own_postgresql.url.replace("://", "+psycopg://"))
    backend = open_backend(engine if by_engine else own_postgresql.url)
    record = new_record()
    backend.announce(record)
    calls: list[Callable[[], object]] = [
        lambda: backend.announce(new_record()),
        lambda: backend.stop(record.task_id, ALICE),
        lambda: backend.stops(record.worker_id, [record.task_id]),
        lambda: backend.renew([record, new_record(worker_id=record.worker_id)]),
        lambda: backend.tasks(task_id=record.task_id),
        lambda: backend.purge(),
    ]
    for migration in MIGRATIONS:
        for call in calls:
            for _ in range(10):  # psycopg prepares what it has sent five times
                call()
            for column in ("task_id", "worker_id", "state"):
                execute(own_postgresql.url, migration.format(column))
            call()
    engine.dispose()

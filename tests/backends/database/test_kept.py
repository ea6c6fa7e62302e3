"""The connections that a backend keeps between its calls."""

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, MetaData, create_engine, select

from flask_chatstop import BackendError
from flask_chatstop.backends.database import DatabaseBackend
from flask_chatstop.backends.database.dialects import parse_url
from flask_chatstop.backends.database.engine import Database
from flask_chatstop.backends.database.table import task_table
from tests.support.driver_connections import opened

Open = Callable[..., DatabaseBackend]
URLS = ["sqlite_url", "postgresql_url", "mariadb_url"]


@pytest.fixture(params=URLS)
def backend(request: pytest.FixtureRequest, open_backend: Open) -> DatabaseBackend:
    return open_backend(request.getfixturevalue(request.param))


def is_closed(driver: Any) -> bool:
    if hasattr(driver, "open"):  # PyMySQL
        return not driver.open
    if hasattr(driver, "pgconn"):
        return bool(driver.closed)
    try:
        driver.execute("SELECT 1")
    except driver.ProgrammingError:
        return True
    return False


def test_calls_one_after_the_other_share_a_connection(backend: DatabaseBackend) -> None:
    connections = opened(backend)
    for _ in range(5):
        backend.check()
    assert len(connections) == 1


def test_an_app_that_uses_the_engine_waits_for_no_call(
    backend: DatabaseBackend,
) -> None:
    backend.check()
    with backend.engine.connect() as connection:
        assert connection.scalar(select(1)) == 1
        backend.tasks()


def test_a_connection_of_a_disposed_engine_is_closed_and_replaced(
    backend: DatabaseBackend,
) -> None:
    connections = opened(backend)
    backend.check()
    backend.engine.dispose()
    backend.check()
    first, second = connections
    assert is_closed(first)
    assert not is_closed(second)


def test_close_closes_what_is_idle(backend: DatabaseBackend) -> None:
    connections = opened(backend)
    backend.check()
    backend.close()
    assert [is_closed(driver) for driver in connections] == [True]


@pytest.mark.parametrize("fixture", URLS)
def test_a_connection_in_use_is_closed_after_its_call(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    url = parse_url(request.getfixturevalue(fixture))
    database = Database(url, task_table(MetaData()), timeout=5)
    begun, goes_on = threading.Event(), threading.Event()
    used: list[Any] = []

    def work(connection: Connection) -> None:
        used.append(connection.connection.driver_connection)
        begun.set()
        assert goes_on.wait(5)

    thread = threading.Thread(target=database.run, args=(work,))
    thread.start()
    assert begun.wait(5)
    database.close()
    assert not is_closed(used[0])
    goes_on.set()
    thread.join()
    assert is_closed(used[0])


@pytest.fixture
def at_message() -> Iterator[Callable[[str, Callable[[], None]], None]]:
    """Call a function at the first message of a pool with this text."""
    logger = logging.getLogger("sqlalchemy.pool.impl.QueuePool")
    level, filters = logger.level, list(logger.filters)

    def at_message(text: str, call: Callable[[], None]) -> None:
        calls = [call]

        def note(record: logging.LogRecord) -> bool:
            if calls and text in record.msg:
                calls.pop()()
            return False

        logger.addFilter(note)
        logger.setLevel(logging.INFO)

    yield at_message
    logger.setLevel(level)
    logger.filters = filters


@pytest.mark.parametrize("is_apps", [False, True])
@pytest.mark.parametrize("moment", ["Pool disposed", "Pool recreating"])
@pytest.mark.parametrize("fixture", ["postgresql_url", "mariadb_url"])
def test_a_connection_given_back_while_its_pool_is_disposed_of_is_closed(
    fixture: str,
    moment: str,
    is_apps: bool,
    request: pytest.FixtureRequest,
    at_message: Callable[[str, Callable[[], None]], None],
) -> None:
    url = parse_url(request.getfixturevalue(fixture))
    source = create_engine(url) if is_apps else url
    database = Database(source, task_table(MetaData()), timeout=5)
    begun, goes_on = threading.Event(), threading.Event()
    used: list[Any] = []

    def work(connection: Connection) -> None:
        used.append(connection.connection.driver_connection)
        begun.set()
        assert goes_on.wait(5)
        raise ValueError("so that the connection is not kept")

    def fail() -> None:
        with pytest.raises(BackendError):
            database.run(work)

    def go_on() -> None:
        goes_on.set()
        thread.join(5)

    thread = threading.Thread(target=fail)
    thread.start()
    assert begun.wait(5)
    at_message(moment, go_on)
    database.close()
    assert not thread.is_alive()
    assert is_closed(used[0])

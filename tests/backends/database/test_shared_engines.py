"""A backend beside an engine whose connections an app holds."""

import contextvars
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine, NullPool, StaticPool, create_engine, event, text

from flask_chatstop import (
    BackendError,
    ConfigurationError,
    EndReason,
    StopOutcome,
)
from flask_chatstop.backends.database import DatabaseBackend
from flask_chatstop.testing import ALICE, listening, new_record, wait_until
from tests.support.worker_under_test import at_once

Open = Callable[..., DatabaseBackend]


@pytest.fixture(params=["postgresql_url", "mariadb_url"])
def open_engine(request: pytest.FixtureRequest) -> Iterator[Callable[..., Engine]]:
    engines: list[Engine] = []

    def open_engine(**options: Any) -> Engine:
        url = request.getfixturevalue(request.param)
        engines.append(create_engine(url, **options))
        return engines[-1]

    yield open_engine
    for engine in engines:
        engine.dispose()


def test_no_call_waits_for_a_connection_that_the_app_holds(
    open_engine: Callable[..., Engine], open_backend: Open
) -> None:
    # A call that waits fails, in whichever of the two times is over first.
    engine = open_engine(pool_size=2, max_overflow=0, pool_timeout=10)
    backend, record = open_backend(lambda: engine, timeout=10.0), new_record()
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(engine.connect()).execute(text("SELECT 1"))
        assert backend.announce(record)
        with listening(backend, [record]) as bell:
            assert backend.stop(record.task_id, ALICE) is StopOutcome.STOPPING
            assert bell.get(timeout=5) == record.task_id
        backend.renew([record])
        backend.end(record, EndReason.STOPPED)


def test_its_connections_are_few_and_made_as_those_of_the_app(
    open_engine: Callable[..., Engine], open_backend: Open
) -> None:
    engine = open_engine(pool_size=50)
    made: list[object] = []
    event.listen(engine, "connect", lambda connection, _: made.append(connection))
    backend = open_backend(engine, timeout=30.0)  # for all of them, on a busy machine
    at_once(*[lambda: backend.announce(new_record())] * 30)
    assert 0 < len(made) <= 5
    assert engine.pool.checkedin() == 0  # type: ignore[attr-defined]


def test_an_engine_that_keeps_no_connections_serves(
    open_engine: Callable[..., Engine], open_backend: Open
) -> None:
    engine = open_engine(poolclass=NullPool)
    backend, record = open_backend(engine), new_record()
    assert backend.announce(record)
    assert backend.stop(record.task_id, ALICE) is StopOutcome.STOPPING
    assert backend.engine.pool is not engine.pool


def test_an_engine_with_one_connection_for_all_threads_is_refused(
    open_engine: Callable[..., Engine], open_backend: Open
) -> None:
    engine = open_engine(poolclass=StaticPool)
    with pytest.raises(ConfigurationError, match="StaticPool"):
        open_backend(engine).check()


@pytest.fixture
def silent() -> Iterator[int]:
    """Give a port where a connection is accepted and nobody speaks."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "mysql+pymysql"])
def test_connecting_as_the_app_does_takes_no_longer_than_the_timeout(
    scheme: str, silent: int, open_backend: Open
) -> None:
    # Neither driver is told a time, and so they would try for long.
    engine = create_engine(f"{scheme}://u@127.0.0.1:{silent}/x")
    backend = open_backend(engine, timeout=0.3)
    before = threading.active_count()
    began = time.monotonic()
    at_once(*[partial(fails_in_time, backend)] * 20)
    assert time.monotonic() - began < 5
    # Those that still try are few.
    assert threading.active_count() <= before + 5


def fails_in_time(backend: DatabaseBackend) -> None:
    with pytest.raises(BackendError, match=r"in time|longer than the timeout"):
        backend.announce(new_record())


def test_a_connection_that_comes_too_late_serves_the_next_call(
    open_engine: Callable[..., Engine], open_backend: Open
) -> None:
    may_connect, made = threading.Event(), []
    engine = open_engine()
    user = contextvars.ContextVar[str]("user")
    user.set("alice")

    @event.listens_for(engine, "do_connect")
    def connect(*_: object) -> None:
        made.append(user.get())  # a function of the app has its caller's context
        assert may_connect.wait(10)

    backend = open_backend(engine, timeout=1.0)
    with pytest.raises(BackendError, match="longer than the timeout"):
        backend.announce(new_record())
    may_connect.set()
    wait_until(lambda: backend.engine.pool.checkedin() == 1)  # type: ignore[attr-defined]
    assert backend.announce(new_record())
    assert made == ["alice"]


PRELOADED = """
import sys
from flask_chatstop.backends.database import DatabaseBackend
from flask_chatstop.testing import new_record
from sqlalchemy import create_engine, text

made = []

def engine():  # as one that fetches its password first
    made.append(create_engine(sys.argv[1]))
    with made[-1].connect() as connection:
        connection.execute(text("SELECT 1"))
        gevent.sleep(0.05)
    return made[-1]

backend = DatabaseBackend(engine)
from gevent import monkey
monkey.patch_all()
import gevent
calls = [gevent.spawn(backend.announce, new_record()) for _ in range(5)]
gevent.joinall(calls, timeout=20, raise_error=True)
assert all(call.value is True for call in calls), calls
"""


def test_an_app_that_was_loaded_before_gevent_may_do_io_to_make_its_engine(
    postgresql_url: str,
) -> None:
    url = postgresql_url
    subprocess.run([sys.executable, "-c", PRELOADED, url], check=True, timeout=120)

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from sqlalchemy import create_engine, text

from flask_chatstop import BackendError, EndReason, StopOutcome, TaskInfo, TaskRecord
from flask_chatstop.backends.database import DatabaseBackend
from flask_chatstop.testing import ALICE, listening, new_record, wait_until
from flask_chatstop.worker import Worker
from tests.support.driver_connections import opened
from tests.support.servers.postgresql import PostgreSQLServer

Open = Callable[..., DatabaseBackend]


@contextmanager
def failing_within(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    with pytest.raises(BackendError):
        yield
    assert time.monotonic() - start < seconds


def test_the_first_stop_after_a_restart_finds_the_task(
    own_postgresql: PostgreSQLServer, open_backend: Open
) -> None:
    backend = open_backend(own_postgresql.url)
    record = new_record()
    backend.announce(record)
    own_postgresql.stop()
    with failing_within(4.0):
        backend.stop(record.task_id, ALICE)
    own_postgresql.start()
    assert backend.stop(record.task_id, ALICE) is StopOutcome.STOPPING


def test_a_restart_between_two_calls_goes_unnoticed(
    own_postgresql: PostgreSQLServer, open_backend: Open
) -> None:
    backend = open_backend(own_postgresql.url)
    backend.announce(new_record())
    own_postgresql.stop()
    own_postgresql.start()
    assert backend.announce(new_record()) is True


def test_the_doorbell_is_heard_at_once_after_a_restart(
    own_postgresql: PostgreSQLServer, open_backend: Open
) -> None:
    backend = open_backend(own_postgresql.url)
    record = new_record()
    backend.announce(record)
    own_postgresql.stop()
    own_postgresql.start()
    with listening(backend, [record]) as bell:
        backend.stop(record.task_id, ALICE)
        assert bell.get(timeout=5) == record.task_id


@pytest.mark.parametrize("is_connected", [True, False])
@pytest.mark.parametrize("by_engine", [True, False])
def test_a_server_that_hangs_is_given_up_in_time(
    own_postgresql: PostgreSQLServer,
    open_backend: Open,
    is_connected: bool,
    by_engine: bool,
) -> None:
    url = own_postgresql.url.replace("://", "+psycopg://")
    engine = create_engine(url, connect_args={"connect_timeout": 2})
    backend = open_backend(engine if by_engine else url, timeout=2.0)
    record = new_record()
    backend.announce(record)
    if not is_connected:
        backend.engine.dispose()
    own_postgresql.hang()
    with failing_within(4.0):
        backend.stop(record.task_id, ALICE)
    own_postgresql.go_on()
    assert backend.stop(record.task_id, ALICE) is StopOutcome.STOPPING
    engine.dispose()


def test_a_listener_that_was_cut_says_so(
    own_postgresql: PostgreSQLServer, open_backend: Open
) -> None:
    backend = open_backend(own_postgresql.url)
    raised: list[Exception] = []
    ready = threading.Event()

    def listen() -> None:
        try:
            backend.listen("me", list, lambda _: ready.set(), threading.Event())
        except BackendError as error:
            raised.append(error)

    thread = threading.Thread(target=listen)
    thread.start()
    assert ready.wait(30)
    own_postgresql.stop()
    thread.join(30)
    assert not thread.is_alive()
    assert raised[0].__cause__ is not None


def test_a_listener_whose_server_hangs_says_so(
    own_postgresql: PostgreSQLServer, open_backend: Open
) -> None:
    # A busy machine needs a part of the time to begin.
    backend = open_backend(own_postgresql.url, timeout=3.0)
    raised: list[Exception] = []
    ready, closing = threading.Event(), threading.Event()

    def listen() -> None:
        try:
            backend.listen("me", lambda: ["task"], lambda _: ready.set(), closing)
        except BackendError as error:
            raised.append(error)

    thread = threading.Thread(target=listen)
    thread.start()
    assert ready.wait(30)
    own_postgresql.hang()
    thread.join(30)
    closing.set()
    own_postgresql.go_on()
    thread.join()
    assert "time" in str(raised[0])


@dataclass
class Running:
    """A task that does nothing."""

    record: TaskRecord
    stopped: threading.Event = field(default_factory=threading.Event)
    __hash__ = object.__hash__

    def stop(self) -> bool:
        self.stopped.set()
        return True

    def end(self, reason: EndReason, error: BaseException | None = None) -> bool:
        return True

    def info(self) -> TaskInfo:
        return TaskInfo(self.record, self.stopped.is_set(), 0.0)


def test_after_an_outage_all_that_runs_can_be_stopped(
    own_postgresql: PostgreSQLServer, open_backend: Open
) -> None:
    worker = Worker(open_backend(own_postgresql.url), sweep_interval=1.0)
    other = open_backend(own_postgresql.url)
    before = Running(new_record(worker_id=worker.id))
    worker.start(before)
    own_postgresql.stop()
    during = Running(new_record(worker_id=worker.id))
    worker.start(during)
    own_postgresql.start()

    def until(task: Running, outcome: StopOutcome) -> None:
        task_id = task.record.task_id
        wait_until(lambda: other.stop(task_id, ALICE) is outcome)

    for task in (before, during):
        until(task, StopOutcome.STOPPING)
        assert task.stopped.wait(10)
        worker.ended(task, EndReason.STOPPED)
        until(task, StopOutcome.STOPPED)
    worker.close()


@pytest.mark.parametrize(
    ("fixture", "cut"),
    [
        (
            "postgresql_url",
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        ),
        ("mariadb_url", "KILL {id}"),
    ],
)
def test_a_connection_that_was_cut_goes_unnoticed(
    fixture: str, cut: str, open_backend: Open, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(fixture)
    backend, scissors = open_backend(url), open_backend(url)
    connections = opened(backend)
    record = new_record()
    backend.announce(record)
    number = connections[-1].thread_id() if "{id}" in cut else 0
    with scissors.engine.connect() as connection:
        connection.execute(text(cut.format(id=number)))
    if "{id}" in cut:  # which it does not wait for
        gone = f"SELECT count(*) FROM information_schema.processlist WHERE id={number}"
        with scissors.engine.connect() as connection:
            wait_until(lambda: connection.execute(text(gone)).scalar() == 0)
    assert backend.announce(new_record()) is True


@pytest.mark.parametrize("by_engine", [True, False])
@pytest.mark.parametrize(
    ("fixture", "lock", "unlock", "waiting"),
    [
        (
            "postgresql_url",
            "LOCK TABLE chatstop_task IN ACCESS EXCLUSIVE MODE",
            "ROLLBACK",
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock'",
        ),
        (
            "mariadb_url",
            "LOCK TABLES chatstop_task WRITE",
            "UNLOCK TABLES",
            "SELECT count(*) FROM information_schema.processlist"
            " WHERE db = DATABASE() AND state LIKE 'Waiting for%'",
        ),
        ("sqlite_url", "BEGIN EXCLUSIVE", "ROLLBACK", None),
    ],
)
def test_a_locked_table_is_given_up_in_time(
    fixture: str,
    lock: str,
    unlock: str,
    waiting: str | None,
    by_engine: bool,
    open_backend: Open,
    request: pytest.FixtureRequest,
) -> None:
    url = request.getfixturevalue(fixture)
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    backend = open_backend(engine if by_engine else url, timeout=2.0)
    record = new_record()
    backend.announce(record)
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as locking, autocommit.connect() as looking:
        locking.execute(text(lock))
        with failing_within(4.0):
            backend.stop(record.task_id, ALICE)
        if waiting and not by_engine:
            query = text(waiting)
            wait_until(lambda: looking.execute(query).scalar() == 0)
        locking.execute(text(unlock))
    outcome = backend.stop(record.task_id, ALICE)
    assert outcome is StopOutcome.STOPPING
    engine.dispose()


def test_a_full_disk_is_a_backend_error_and_passes(
    sqlite_url: str, open_backend: Open
) -> None:
    backend = open_backend(sqlite_url)
    connections = opened(backend)
    first = new_record()
    backend.announce(first)
    [connection] = connections  # its only one
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(BackendError, match="full") as raised:
        for _ in range(10_000):
            backend.announce(new_record())
    assert isinstance(raised.value.__cause__, sqlite3.OperationalError)
    assert backend.stop(first.task_id, ALICE) is StopOutcome.STOPPING
    connection.execute("PRAGMA max_page_count = 1000000")
    assert backend.announce(new_record()) is True


def test_a_url_of_its_own_serves_the_doorbell(
    postgresql_url: str, open_backend: Open
) -> None:
    broken = open_backend(postgresql_url, listen_url="postgresql://u@127.0.0.1:1/x")
    record = new_record()
    broken.announce(record)
    with pytest.raises(BackendError, match=r"127\.0\.0\.1:1"):
        broken.listen("me", list, lambda _: None, threading.Event())
    backend = open_backend(postgresql_url, listen_url=postgresql_url)
    with listening(backend, [record]) as bell:
        broken.stop(record.task_id, ALICE)
        assert bell.get(timeout=5) == record.task_id

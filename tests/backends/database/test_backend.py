import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, event, select, text

from flask_chatstop import BackendError, EndReason, Owner, StopOutcome
from flask_chatstop.backends.database import DatabaseBackend
from flask_chatstop.testing import (
    ALICE,
    BackendContract,
    listening,
    new_record,
    new_worker,
    wait_until,
)
from tests.support.driver_connections import opened


class DatabaseContract(BackendContract):
    url: str

    def open_backend(self, **options: Any) -> DatabaseBackend:
        return DatabaseBackend(self.url, **options)


class TestOnSQLite(DatabaseContract):
    @pytest.fixture(autouse=True)
    def _use(self, sqlite_url: str) -> None:
        self.url = sqlite_url


class TestOnPostgreSQL(DatabaseContract):
    @pytest.fixture(autouse=True)
    def _use(self, postgresql_url: str) -> None:
        self.url = postgresql_url


class TestOnMariaDB(DatabaseContract):
    @pytest.fixture(autouse=True)
    def _use(self, mariadb_url: str) -> None:
        self.url = mariadb_url


URLS = ["sqlite_url", "postgresql_url", "mariadb_url"]


@pytest.fixture(params=URLS)
def url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


Open = Callable[..., DatabaseBackend]


@pytest.fixture
def backend(url: str, open_backend: Open) -> DatabaseBackend:
    return open_backend(url)


@contextmanager
def statements(backend: DatabaseBackend) -> Iterator[list[str]]:
    """Count what the engine sends, transactions included."""
    seen: list[str] = []
    if backend.engine.dialect.name == "sqlite":  # whose stop goes past the engine

        def trace(driver: Any, record: object) -> None:
            driver.set_trace_callback(seen.append)

        event.listen(backend.engine, "connect", trace)
        backend.engine.dispose()  # so that the next call connects
        yield seen
        event.remove(backend.engine, "connect", trace)
        backend.engine.dispose()
        return

    def before(conn: Any, cursor: Any, statement: str, *rest: Any) -> None:
        seen.append(statement)

    event.listen(backend.engine, "before_cursor_execute", before)
    yield seen
    event.remove(backend.engine, "before_cursor_execute", before)


def test_every_call_is_one_statement_and_no_transaction(
    backend: DatabaseBackend,
) -> None:
    record, unknown = new_record(), new_record()
    backend.end(unknown, EndReason.FINISHED)  # which looks for rows to purge
    calls: list[Callable[[], object]] = [
        lambda: backend.announce(record),
        lambda: backend.renew([record]),
        lambda: backend.end(record, EndReason.STOPPED),
        backend.check,
    ]
    # What goes past SQLAlchemy is counted on the wire, below.
    if backend.engine.dialect.name != "mysql":
        calls.insert(2, lambda: backend.stops(record.worker_id, [record.task_id]))
    if backend.engine.dialect.name == "sqlite":
        calls[3:3] = [lambda: backend.stop(record.task_id, ALICE)] * 2
    for call in calls:
        with statements(backend) as seen:
            call()
        assert len(seen) == 1, seen


def test_ten_thousand_tasks_are_renewed_by_one_statement_and_swept_by_one(
    backend: DatabaseBackend,
) -> None:
    worker_id = new_worker()
    records = [new_record(worker_id=worker_id) for _ in range(10_000)]
    for start in range(0, len(records), 2_000):
        backend.renew(records[start : start + 2_000])
    asked = records[1234].task_id
    backend.stop(asked, ALICE)
    with statements(backend) as seen:
        backend.renew(records)
    assert len(seen) == 1
    with statements(backend) as seen:
        found = backend.stops(worker_id, [record.task_id for record in records])
    # On MariaDB it goes past SQLAlchemy.
    assert len(seen) == (0 if backend.engine.dialect.name == "mysql" else 1)
    assert found == {asked}


def test_only_the_lost_ones_are_inserted_again(backend: DatabaseBackend) -> None:
    worker_id = new_worker()
    records = [new_record(worker_id=worker_id) for _ in range(1_200)]
    backend.renew(records[:-1])
    with statements(backend) as seen:
        backend.renew(records)
    assert [statement.split()[0] for statement in seen] == [
        "UPDATE",
        "SELECT",
        "SELECT",
        "INSERT",
        "SELECT",
    ]
    assert backend.stop(records[-1].task_id, ALICE) is StopOutcome.STOPPING


def test_nothing_but_the_statement_goes_over_the_wire(
    mariadb_url: str, open_backend: Open
) -> None:
    backend = open_backend(mariadb_url)
    connections = opened(backend)
    record = new_record()
    backend.end(record, EndReason.FINISHED)  # which looks for rows to purge
    [connection] = connections

    def questions() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SHOW SESSION STATUS LIKE 'Questions'")
            return int(cursor.fetchone()[1])

    before = questions()
    backend.announce(record)
    backend.end(record, EndReason.STOPPED)
    assert questions() - before == 2 + 1
    backend.stop(record.task_id, ALICE)
    # Its transaction is begun and committed, and it asks for the worker's listener.
    # It was over before, so its state is asked for too.
    assert questions() - before == 3 + 5 + 1
    backend.stops(record.worker_id, [record.task_id])
    # It sees what is not committed, which a statement of its own asks for.
    assert questions() - before == 9 + 2 + 1


@contextmanager
def traced(driver: Any, path: Path) -> Iterator[list[list[str]]]:
    """List what psycopg sends and receives, as the words of libpq's trace."""
    messages: list[list[str]] = []
    with path.open("w+") as file:
        driver.pgconn.trace(file.fileno())
        yield messages
        driver.pgconn.untrace()
        file.seek(0)
        messages += [line.split()[2:] for line in file]


def test_a_stop_and_its_ring_are_one_round_trip_of_two_transactions(
    postgresql_url: str, open_backend: Open, tmp_path: Path
) -> None:
    backend, other = open_backend(postgresql_url), open_backend(postgresql_url)
    connections = opened(other)
    other.check()
    for _ in range(2):  # the first one prepares the statements
        record = new_record()
        backend.announce(record)
        with (
            listening(backend, [record]) as bell,
            traced(connections[0], tmp_path / "trace") as messages,
        ):
            other.stop(record.task_id, ALICE)
            assert bell.get(timeout=5) == record.task_id
    sent = [words[2] for words in messages if words[0] == "F"]
    assert sent == ["Bind", "Describe", "Execute", "Sync"] * 2
    first_answer = [words[0] for words in messages].index("B")
    assert all(words[0] == "B" for words in messages[first_answer:])


def _is_asleep(backend: DatabaseBackend, worker_id: str) -> bool:
    query = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = :name")
    with backend.engine.connect() as connection:
        found = connection.execute(query, {"name": f"chatstop {worker_id}"})
        return found.scalar() == 1


def test_a_stop_rings_nobody_whom_an_earlier_one_has_rung(
    postgresql_url: str, open_backend: Open, tmp_path: Path
) -> None:
    backend, other = open_backend(postgresql_url), open_backend(postgresql_url)
    connections = opened(other)
    record = new_record()
    backend.announce(record)
    with listening(backend, [record]) as bell:
        other.stop(record.task_id, ALICE)
        assert bell.get(timeout=5) == record.task_id
        wait_until(lambda: _is_asleep(other, record.worker_id))
        with traced(connections[0], tmp_path / "trace") as messages:
            assert other.stop("unknown", ALICE) is StopOutcome.MISSING
    assert messages
    assert not [words for words in messages if words[2:3] == ["DataRow"]]


def test_a_stop_prepares_its_statements_again_that_the_server_has_forgotten(
    postgresql_url: str, open_backend: Open
) -> None:
    backend, records = open_backend(postgresql_url), [new_record(), new_record()]
    connections = opened(backend)
    for record in records:
        backend.announce(record)
        assert backend.stop(record.task_id, ALICE) is StopOutcome.STOPPING
        connections[0].execute("DEALLOCATE ALL")
        connections[0]._prepared.clear()
    assert len(connections) == 1


class Recording:
    """A socket, or a file of it, that notes its use."""

    def __init__(self, real: Any, calls: list[str]) -> None:
        self._real, self._calls = real, calls

    def __getattr__(self, name: str) -> Any:
        if name in ("sendall", "read"):
            self._calls.append(name)
        return getattr(self._real, name)


def test_a_stop_sends_all_to_mariadb_before_it_waits_for_an_answer(
    mariadb_url: str, open_backend: Open
) -> None:
    backend, record = open_backend(mariadb_url), new_record()
    connections = opened(backend)
    backend.announce(record)
    calls: list[str] = []
    [driver] = connections
    driver._sock = Recording(driver._sock, calls)
    driver._rfile = Recording(driver._rfile, calls)
    assert backend.stop(record.task_id, ALICE) is StopOutcome.STOPPING
    assert calls[:5] == ["sendall"] * 4 + ["read"]
    assert "sendall" not in calls[4:]


def test_a_row_says_whose_task_it_is_and_where_it_runs(
    backend: DatabaseBackend,
) -> None:
    record = new_record(owner=Owner("shop", "web-app", "Zoë 😀"))
    before = time.time()
    backend.announce(record)
    with backend.engine.connect() as connection:
        query = text("SELECT * FROM chatstop_task WHERE task_id = :id")
        found = connection.execute(query, {"id": record.task_id}).one()
    texts = [x.decode() if isinstance(x, bytes) else x for x in found[:6]]
    assert texts[:4] == [record.task_id, "shop", "web-app", "Zoë 😀"]
    assert texts[4:] == [record.worker_id, "running"]
    assert abs(found.created_at - before) < 5
    assert found.expires_at - found.created_at == pytest.approx(60, abs=0.1)


def test_expired_rows_go_by_themselves(url: str, open_backend: Open) -> None:
    # It purges for half of its time at most, which a busy machine may take whole.
    first, second = (open_backend(url, lease=0.2, timeout=60.0) for _ in range(2))
    purge_all(first)
    worker_id = new_worker()
    records = [new_record(worker_id=worker_id) for _ in range(1_200)]
    first.renew(records)
    last = max(record.task_id for record in records)
    wait_until(lambda: not first.tasks(task_id=last))
    second.end(new_record(), EndReason.FINISHED)
    assert rows(first) <= {""}


def test_a_purge_leaves_what_was_stopped_to_a_worker_that_comes_back(
    url: str, open_backend: Open
) -> None:
    backend, record = open_backend(url, lease=0.2), new_record()
    backend.announce(record)
    backend.stop(record.task_id, ALICE)
    wait_until(lambda: not backend.tasks(task_id=record.task_id))
    backend.purge()
    patient = open_backend(url)  # whose lease outlives a slow machine
    patient.renew([record])
    assert patient.stops(record.worker_id, [record.task_id]) == {record.task_id}


def test_one_worker_at_a_time_purges(url: str, open_backend: Open) -> None:
    backends = [open_backend(url) for _ in range(3)]
    purge_all(backends[0])
    purging = 0
    for backend in backends:
        with statements(backend) as seen:
            backend.end(new_record(), EndReason.FINISHED)
        purging += sum("expires_at" in s and s.startswith("SELECT") for s in seen)
        assert purging == 1


def test_a_purge_tells_how_many_rows_it_deleted(url: str, open_backend: Open) -> None:
    backend = open_backend(url, retention=0.1)
    backend.end(new_record(), EndReason.FINISHED)  # the one in a minute that purges
    purge_all(backend)
    worker_id = new_worker()
    records = [new_record(worker_id=worker_id) for _ in range(700)]
    backend.renew(records)
    for record in records[:3]:
        backend.end(record, EndReason.FINISHED)
    wait_until(lambda: backend.stop(records[2].task_id, ALICE) is StopOutcome.MISSING)
    assert backend.purge() == 3
    assert backend.stop(records[3].task_id, ALICE) is StopOutcome.STOPPING


def rows(backend: DatabaseBackend) -> set[str]:
    with backend.engine.connect() as connection:
        found = connection.scalars(select(backend.table.c.task_id))
        return {x.decode() if isinstance(x, bytes) else x for x in found}


def purge_all(backend: DatabaseBackend) -> None:
    backend.check()
    with backend.engine.connect() as connection:
        connection.execute(delete(backend.table))


@pytest.mark.slow
def test_all_calls_at_once_never_fail(backend: DatabaseBackend) -> None:
    worker_id = new_worker()
    records = [new_record(worker_id=worker_id) for _ in range(300)]
    backend.renew(records)
    errors: list[BackendError] = []
    done = threading.Event()

    def repeat(work: Callable[[], object]) -> None:
        try:
            while not done.is_set():
                work()
        except BackendError as error:
            errors.append(error)

    def stop_and_end() -> None:
        for record in records:
            backend.stop(record.task_id, ALICE)
            backend.end(record, EndReason.STOPPED)

    shuffled = random.sample(records, len(records))
    works: list[Callable[[], object]] = [
        lambda: backend.renew(records),
        lambda: backend.renew(shuffled),
        backend.purge,
    ]
    threads = [threading.Thread(target=repeat, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        stop_and_end()
    finally:
        done.set()
    for thread in threads:
        thread.join()
    assert errors == []

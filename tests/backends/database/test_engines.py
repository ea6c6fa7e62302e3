import logging
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, create_engine, make_url, text

from flask_chatstop import BackendError, StopOutcome
from flask_chatstop.backends.database import DatabaseBackend
from flask_chatstop.testing import ALICE, BackendContract, new_record, wait_until

Open = Callable[..., DatabaseBackend]
OpenEngine = Callable[..., Engine]


@pytest.fixture
def open_engine(postgresql_url: str) -> Iterator[OpenEngine]:
    """Make engines on PostgreSQL as an app does."""
    engines: list[Engine] = []

    def open_engine(driver: str = "psycopg", **options: Any) -> Engine:
        url = make_url(postgresql_url).set(drivername=f"postgresql+{driver}")
        engines.append(create_engine(url, **options))
        return engines[-1]

    yield open_engine
    for engine in engines:
        engine.dispose()


@pytest.fixture(params=["url", "psycopg", "psycopg2"])
def open_source(
    request: pytest.FixtureRequest,
    postgresql_url: str,
    open_backend: Open,
    open_engine: OpenEngine,
) -> Callable[[str], DatabaseBackend]:
    """Open a backend by URL or on an engine, with options for the server."""

    def open_source(options: str = "") -> DatabaseBackend:
        if request.param == "url":
            url = make_url(postgresql_url).update_query_dict({"options": options})
            return open_backend(url)
        connect_args = {"options": options}
        return open_backend(open_engine(request.param, connect_args=connect_args))

    return open_source


OpenSource = Callable[..., DatabaseBackend]


class EngineContract(BackendContract):
    driver: str

    @pytest.fixture(autouse=True)
    def _use(self, open_engine: OpenEngine) -> None:
        self.engine = open_engine(self.driver, pool_size=20)

    def open_backend(self, **options: Any) -> DatabaseBackend:
        return DatabaseBackend(self.engine, **options)


class TestOnAnEngineOfPsycopg(EngineContract):
    driver = "psycopg"


class TestOnAnEngineOfPsycopg2(EngineContract):
    driver = "psycopg2"


def test_a_stop_is_committed_when_it_returns(
    open_source: OpenSource, open_engine: OpenEngine
) -> None:
    backend, record = open_source(), new_record()
    backend.announce(record)
    query = text("SELECT state FROM chatstop_task WHERE task_id = :task_id")
    with open_engine().connect() as connection:
        backend.stop(record.task_id, ALICE)
        params = {"task_id": record.task_id}
        assert connection.execute(query, params).scalar() == "stopping"


def test_a_commit_waits_for_the_disk_again_after_a_stop(
    open_backend: Open, open_engine: OpenEngine
) -> None:
    engine = open_engine(pool_size=1, max_overflow=0)
    backend, record = open_backend(engine), new_record()
    backend.announce(record)
    backend.stop(record.task_id, ALICE)
    with engine.connect() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar() == "on"


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), ValueError()])
def test_whatever_keeps_an_engine_from_connecting_is_an_error_of_the_backend(
    open_backend: Open, error: Exception
) -> None:
    def creator() -> Any:
        raise error

    backend = open_backend(create_engine("postgresql+psycopg://", creator=creator))
    with pytest.raises(BackendError) as raised:
        backend.stop("x", ALICE)
    assert raised.value.__cause__ is error


def test_a_connection_that_comes_after_the_end_is_closed(
    postgresql_url: str, open_backend: Open
) -> None:
    opened: list[psycopg.Connection[Any]] = []
    may_connect = threading.Event()

    def creator() -> Any:
        may_connect.wait(10)
        opened.append(psycopg.connect(postgresql_url.replace("+psycopg", "")))
        return opened[0]

    engine = create_engine("postgresql+psycopg://", creator=creator)
    backend = open_backend(engine, timeout=0.1)
    with pytest.raises(BackendError, match="takes longer than the timeout"):
        backend.stop("x", ALICE)
    backend.close()
    may_connect.set()
    wait_until(lambda: bool(opened) and opened[0].closed)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_cannot_hold_every_user_is_refused(
    encoding: str, open_engine: OpenEngine, open_backend: Open
) -> None:
    name = f"chatstop_{encoding.lower()}_{uuid.uuid4().hex}"
    admin = open_engine(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        how = f"TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"
        connection.execute(text(f"CREATE DATABASE {name} {how}"))
    try:
        backend = open_backend(admin.url.set(database=name))
        with pytest.raises(BackendError, match=f"is encoded as {encoding}, which"):
            backend.check()
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


def test_a_stop_without_a_table_names_the_command(open_source: OpenSource) -> None:
    backend = open_source("-csearch_path=nowhere")
    with pytest.raises(BackendError, match="flask chatstop init-db"):
        backend.stop("any", ALICE)


def test_a_stop_goes_to_the_schema_that_the_engine_was_told(
    open_backend: Open, open_engine: OpenEngine
) -> None:
    engine = open_engine()
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA IF EXISTS tenant CASCADE"))
        connection.execute(text("CREATE SCHEMA tenant"))
    of_tenant = engine.execution_options(schema_translate_map={None: "tenant"})
    backend, record = open_backend(of_tenant), new_record()
    backend.create_table()
    backend.announce(record)
    assert backend.stop(record.task_id, ALICE) is StopOutcome.STOPPING
    assert open_backend(engine).stop(record.task_id, ALICE) is StopOutcome.MISSING


def test_a_stop_that_waits_for_another_one_rings_nobody(
    open_engine: OpenEngine, open_backend: Open
) -> None:
    engine, record = open_engine(), new_record()
    backend = open_backend(engine)
    backend.announce(record)
    listener = {"id": f"/listener/{record.worker_id}", "worker": record.worker_id}
    stop = text("UPDATE chatstop_task SET state = 'stopping' WHERE task_id = :id")
    with ThreadPoolExecutor(1) as pool, engine.connect() as first:
        first.execute(text(LISTENER), listener)
        first.commit()
        first.execute(stop, {"id": record.task_id})
        second = pool.submit(backend.stop, record.task_id, ALICE)
        wait_until(lambda: len(waiting(first)) == 1 or second.done())
        first.commit()
        assert second.result() is StopOutcome.STOPPING
        state = text("SELECT state FROM chatstop_task WHERE task_id = :id")
        assert first.scalar(state, listener) == "asleep"


LISTENER = """INSERT INTO chatstop_task
    VALUES (:id, '', '', '0', :worker, 'asleep', 0, 0)"""


@contextmanager
def waiting_stop(
    backend: DatabaseBackend, engine: Engine
) -> Iterator[tuple[Connection, Future[StopOutcome]]]:
    """Let a stop wait for its row, which a transaction has changed."""
    record = new_record()
    backend.announce(record)
    change = text("UPDATE chatstop_task SET created_at = 0 WHERE task_id = :task_id")
    with ThreadPoolExecutor(1) as pool, engine.connect() as changing:
        changing.execute(change, {"task_id": record.task_id})
        stopping = pool.submit(backend.stop, record.task_id, ALICE)
        wait_until(lambda: len(waiting(changing)) == 1 or stopping.done())
        yield changing, stopping
    assert backend.stop(record.task_id, ALICE) is StopOutcome.STOPPING


def waiting(connection: Connection) -> list[int]:
    """Give the processes of the server that wait for a lock."""
    query = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event_type = 'Lock'"
    )
    connection.execute(text("SELECT pg_stat_clear_snapshot()"))
    return list(connection.scalars(text(query)))


def test_a_stop_that_another_transaction_outran_is_done_again(
    open_source: OpenSource, open_engine: OpenEngine
) -> None:
    backend = open_source("-cdefault_transaction_isolation=serializable")
    with waiting_stop(backend, open_engine()) as (changing, stopping):
        changing.commit()
        assert stopping.result(5) is StopOutcome.STOPPING


def test_a_stop_that_waits_too_long_for_its_row_says_so(
    open_source: OpenSource, open_engine: OpenEngine
) -> None:
    backend = open_source("-clock_timeout=200")
    with waiting_stop(backend, open_engine()) as (_, stopping):
        with pytest.raises(BackendError, match="due to lock timeout") as raised:
            stopping.result(5)
        assert str(raised.value).startswith(f"{backend.engine.url}: ".split("?")[0])
        assert type(raised.value.__cause__).__module__.startswith("psycopg")


def errors_of_sqlalchemy(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what its pool has logged of connections that it could not reset."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("sqlalchemy") and record.levelno >= logging.ERROR
    ]


def test_a_connection_that_was_cut_in_a_stop_is_not_used_again(
    open_source: OpenSource,
    open_engine: OpenEngine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend = open_source()
    with waiting_stop(backend, open_engine()) as (changing, stopping):
        cut = text("SELECT pg_terminate_backend(:pid)")
        changing.execute(cut, {"pid": waiting(changing)[0]})
        with pytest.raises(BackendError, match=r"terminating|server closed"):
            stopping.result(5)
    with backend.engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    assert not errors_of_sqlalchemy(caplog)


class Interrupt(BaseException):
    """What a server raises in a worker, to end what it does."""


# Not that of psycopg2, which cannot be interrupted while it waits.
@pytest.mark.parametrize("open_source", ["url", "psycopg"], indirect=True)
def test_a_connection_that_was_busy_when_a_stop_was_interrupted_is_not_used_again(
    open_source: OpenSource,
    open_engine: OpenEngine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend, engine, record = open_source(), open_engine(), new_record()
    backend.announce(record)

    def interrupt(*args: object) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    with engine.connect() as locking:
        locking.execute(text("LOCK TABLE chatstop_task"))

        def interrupt_it() -> None:
            wait_until(lambda: len(waiting(locking)) == 1)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

        threading.Thread(target=interrupt_it).start()
        with pytest.raises(Interrupt):
            backend.stop(record.task_id, ALICE)
        with backend.engine.connect() as connection:
            assert connection.execute(text("SELECT 1")).scalar() == 1
    signal.signal(signal.SIGUSR1, before)
    assert backend.stop(record.task_id, ALICE) is StopOutcome.STOPPING
    assert not errors_of_sqlalchemy(caplog)


@pytest.mark.parametrize("fixture", ["postgresql_url", "mariadb_url"])
def test_a_connection_that_is_in_use_while_all_are_dropped_is_closed(
    fixture: str, request: pytest.FixtureRequest, open_backend: Open
) -> None:
    backend = open_backend(request.getfixturevalue(fixture))
    drivers: list[Any] = []

    def work(connection: Connection) -> None:
        drivers.append(connection.connection.driver_connection)
        if len(drivers) == 1:
            backend.engine.dispose()  # as another call does when the primary changes

    for _ in range(3):
        backend._database.run(work)
    dropped, kept, same = drivers
    assert is_closed(dropped)
    assert kept is same and not is_closed(kept)


def is_closed(driver: Any) -> bool:
    """Tell it of a connection of psycopg, or of PyMySQL."""
    return bool(driver.closed) if hasattr(driver, "closed") else not driver.open

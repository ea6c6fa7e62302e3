import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, text

from flask_chatstop import BackendError, EndReason, StopOutcome
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
from tests.support.servers.pgbouncer import POOL_SIZE, pgbouncer
from tests.support.servers.postgresql import PostgreSQLServer
from tests.support.worker_app import WorkerApp

Open = Callable[..., DatabaseBackend]


@pytest.fixture(scope="module")
def pooled_url(postgresql_url: str) -> Iterator[str]:
    with pgbouncer(postgresql_url) as url:
        yield url


class TestThroughAPooler(BackendContract):
    @pytest.fixture(autouse=True)
    def _use(self, pooled_url: str, postgresql_url: str) -> None:
        self.url, self.listen_url = pooled_url, postgresql_url

    def open_backend(self, **options: Any) -> DatabaseBackend:
        return DatabaseBackend(self.url, listen_url=self.listen_url, **options)


def test_this_pooler_gives_each_transaction_another_connection(pooled_url: str) -> None:
    with psycopg.connect(pooled_url, autocommit=True) as connection:
        query = "SELECT pg_backend_pid()"
        found = [
            connection.execute(query, prepare=False).fetchone()
            for _ in range(POOL_SIZE)
        ]
        assert len(set(found)) == POOL_SIZE


def live(backend: DatabaseBackend, worker_id: str) -> None:
    """Let a task begin, be stopped and end."""
    record = new_record(worker_id=worker_id)
    task_id = record.task_id
    assert backend.announce(record) is True
    backend.renew([record])
    assert backend.stop(task_id, ALICE) is StopOutcome.STOPPING
    assert backend.stops(worker_id, [task_id]) == {task_id}
    backend.end(record, EndReason.STOPPED)
    assert backend.stop(task_id, ALICE) is StopOutcome.STOPPED


@pytest.mark.parametrize("by_engine", [True, False])
def test_many_tasks_live_through_a_pooler(
    pooled_url: str, open_backend: Open, by_engine: bool
) -> None:
    engine = create_engine(
        pooled_url.replace("://", "+psycopg://"),
        connect_args={"prepare_threshold": None},
        pool_size=3 * POOL_SIZE,
    )
    backend = open_backend(engine if by_engine else pooled_url)
    failed: list[BaseException] = []

    def run() -> None:
        worker_id = new_worker()
        try:
            for _ in range(20):
                live(backend, worker_id)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(2 * POOL_SIZE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    engine.dispose()


def prepared(backend: DatabaseBackend) -> int:
    """Count what psycopg has prepared on the connection of a backend."""
    connections = opened(backend)
    for _ in range(10):
        live(backend, new_worker())
    query = "SELECT count(*) FROM pg_prepared_statements"
    return int(connections[-1].execute(query, prepare=False).fetchone()[0])


def test_statements_are_prepared_where_no_pooler_is(
    postgresql_url: str, pooled_url: str, open_backend: Open
) -> None:
    assert prepared(open_backend(postgresql_url)) > 3
    assert prepared(open_backend(pooled_url)) == 0


def test_a_listen_url_around_the_pooler_rings_at_once(
    pooled_url: str, postgresql_url: str
) -> None:
    backends = [
        DatabaseBackend(pooled_url, listen_url=postgresql_url) for _ in range(2)
    ]
    worker_apps = [WorkerApp(backend, sweep_interval=60.0) for backend in backends]
    assert seconds_to_stop(*worker_apps) < 10


def test_without_a_listen_url_the_sweep_stops(pooled_url: str) -> None:
    worker_apps = [WorkerApp(pooled_url, sweep_interval=1.0) for _ in range(2)]
    assert seconds_to_stop(*worker_apps) < 10


def seconds_to_stop(streaming: WorkerApp, stopping: WorkerApp) -> float:
    """Stop through one app what another one streams."""
    chat = streaming.chat()
    assert chat.goes_on()
    start = time.monotonic()
    assert stopping.stop(chat).status_code == 200
    assert chat.ended.wait(30)
    took = time.monotonic() - start
    for worker_app in (streaming, stopping):
        worker_app.close()
    return took


def statement_timeout(backend: DatabaseBackend) -> str:
    with backend.engine.connect() as connection:
        return str(connection.execute(text("SHOW statement_timeout")).scalar())


def test_a_timeout_of_the_server_is_set_where_it_can_be(
    postgresql_url: str, pooled_url: str, open_backend: Open
) -> None:
    assert statement_timeout(open_backend(postgresql_url)) == "1800ms"
    assert statement_timeout(open_backend(pooled_url)) == "0"
    with pgbouncer(postgresql_url, ignore_startup_parameters="options") as url:
        backend = open_backend(url)
        assert statement_timeout(backend) == "0"
        live(backend, new_worker())


def test_options_of_your_own_that_a_pooler_refuses_are_an_error(
    pooled_url: str, open_backend: Open
) -> None:
    backend = open_backend(f"{pooled_url}?options=-c%20search_path%3Dmine")
    with pytest.raises(BackendError, match="startup parameter"):
        backend.check()


def test_a_locked_table_is_given_up_in_time_through_a_pooler(
    pooled_url: str, postgresql_url: str, open_backend: Open
) -> None:
    backend = open_backend(pooled_url, timeout=2.0)
    record = new_record()
    backend.announce(record)
    engine = create_engine(postgresql_url)
    with engine.connect() as locking:
        locking.execute(text("LOCK TABLE chatstop_task"))
        start = time.monotonic()
        with pytest.raises(BackendError, match="no answer in time"):
            backend.stop(record.task_id, ALICE)
        assert time.monotonic() - start < 4.0
    assert backend.stop(record.task_id, ALICE) is StopOutcome.STOPPING
    engine.dispose()


def test_a_server_behind_a_pooler_may_go_and_come_back(open_backend: Open) -> None:
    server = PostgreSQLServer()
    server.start()
    try:
        with pgbouncer(server.url, server_login_retry="0.1") as url:
            backend = open_backend(url, timeout=2.0)
            backend.create_table()
            record = new_record()
            backend.announce(record)
            server.stop()
            start = time.monotonic()
            with pytest.raises(BackendError):
                backend.stop(record.task_id, ALICE)
            assert time.monotonic() - start < 4.0
            server.start()
            wait_until(lambda: outcome(backend, record.task_id) is not None)
            assert backend.stop(record.task_id, ALICE) is StopOutcome.STOPPING
            with listening(open_backend(url, listen_url=server.url), [record]) as bell:
                backend.stop(record.task_id, ALICE)
                assert bell.get(timeout=5) == record.task_id
    finally:
        server.remove()


def outcome(backend: DatabaseBackend, task_id: str) -> StopOutcome | None:
    try:
        return backend.stop(task_id, ALICE)
    except BackendError:
        return None

"""The sleeping block of a listener on PostgreSQL, and its cancellation by a stop."""

import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, make_url

from flask_chatstop import TaskRecord
from flask_chatstop.backends.database import DatabaseBackend, sleeping_query
from flask_chatstop.testing import ALICE, listening, new_record, new_worker, wait_until
from tests.support.scripts import run
from tests.support.servers.postgresql import PostgreSQLServer

Open = Callable[..., DatabaseBackend]


@pytest.fixture
def url(postgresql_url: str) -> str:
    return postgresql_url.replace("+psycopg", "")


def ask(url: str, query: str, *params: object) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query.encode(), params)
        return [row[0] for row in cursor.fetchall()] if cursor.description else []


def sleeping(url: str, worker_id: str) -> list[int]:
    """Give the processes in which a block of this worker's sleeps."""
    query = "SELECT pid FROM pg_stat_activity WHERE application_name = %s"
    return ask(url, query, f"chatstop {worker_id}")


class Innocent(threading.Thread):
    """A query of another app's, with the same role."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._connection = psycopg.connect(url, autocommit=True)
        self.pid = self._connection.info.backend_pid
        self.result: Any = None
        self.start()

    def run(self) -> None:
        with self._connection as connection:
            query = "SELECT 'not cancelled' FROM pg_sleep(1.5)"
            self.result = connection.execute(query).fetchone()


def is_waiting_for_a_lock(url: str) -> bool:
    query = (
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event_type = 'Lock'"
    )
    return bool(ask(url, query))


def test_a_stop_that_waits_for_its_row_rings_a_listener_that_sleeps_by_then(
    url: str, open_backend: Open
) -> None:
    """Its snapshot is older than the listener's sleep, and a poll would come late."""
    backend, record = open_backend(url), new_record()
    backend.announce(record)
    listener = (f"/listener/{record.worker_id}", record.worker_id)
    ask(
        url,
        "INSERT INTO chatstop_task (task_id, owner_app, owner_source, owner_user,"
        " worker_id, state, created_at, expires_at)"
        " VALUES (%s, '', '', '0', %s, 'rung', 0, 1e12)",
        *listener,
    )
    stop = threading.Thread(target=backend.stop, args=(record.task_id, ALICE))
    with psycopg.connect(url) as renewing:
        query = "SELECT 1 FROM chatstop_task WHERE task_id = %s FOR UPDATE"
        renewing.execute(query, [record.task_id])
        stop.start()
        wait_until(lambda: is_waiting_for_a_lock(url))
        own = "UPDATE chatstop_task SET state = 'asleep' WHERE task_id = %s"
        ask(url, own, listener[0])
        renewing.rollback()
    stop.join()
    state = "SELECT state FROM chatstop_task WHERE task_id = %s"
    assert ask(url, state, listener[0]) == ["rung"]


def test_a_stop_cancels_the_block_of_the_listener_and_no_other(
    url: str, open_backend: Open
) -> None:
    backend, other = open_backend(url), open_backend(url)
    mine, theirs = new_record(), new_record()
    for record in (mine, theirs):
        backend.announce(record)
    innocent = Innocent(url)
    with listening(backend, [mine]) as bell, listening(backend, [theirs]) as silent:
        other.stop(mine.task_id, ALICE)
        assert bell.get(timeout=5) == mine.task_id
        assert silent.empty()
    innocent.join()
    assert innocent.result == ("not cancelled",)


def test_every_stop_of_many_bursts_is_heard_and_nothing_is_in_the_log(
    own_postgresql: PostgreSQLServer, open_backend: Open
) -> None:
    url = own_postgresql.url
    backend, other = open_backend(url), open_backend(url)
    logged = own_postgresql.log.stat().st_size

    def stop(part: list[TaskRecord]) -> None:
        for record in part:
            other.stop(record.task_id, ALICE)

    # In one burst of ten, two cancellations met one sleep, or the listener left early.
    for _ in range(20):
        worker_id = new_worker()
        records = [new_record(worker_id=worker_id) for _ in range(200)]
        backend.renew(records)
        with listening(backend, records) as bell, ThreadPoolExecutor(5) as pool:
            stops = [pool.submit(stop, records[start::5]) for start in range(5)]
            missing = {record.task_id for record in records}
            while missing:
                missing.discard(bell.get(timeout=5))
            for each in stops:
                each.result()
        assert sleeping(url, worker_id) == []
    assert own_postgresql.log.read_text()[logged:] == ""


@pytest.fixture
def seldom_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no poll find anything within the time of a test."""
    monkeypatch.setattr(sleeping_query, "TRUSTING", 60.0)
    monkeypatch.setattr(sleeping_query, "DOUBTING", 60.0)


@pytest.mark.usefixtures("seldom_polls")
def test_a_stop_rings_after_one_of_a_task_that_has_ended(
    url: str, open_backend: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop at the worker itself ends the task before the listener could find it."""
    backend, other, worker_id = open_backend(url), open_backend(url), new_worker()
    ended, running = (new_record(worker_id=worker_id) for _ in range(2))
    backend.renew([ended, running])
    queries = backend._queries_of_table()
    register = queries.register
    stops = [ended]

    def stop_at_once(connection: Connection, worker_id: str, number: int) -> None:
        register(connection, worker_id, number)
        if stops:
            other.stop(stops.pop().task_id, ALICE)

    monkeypatch.setattr(queries, "register", stop_at_once)
    with listening(backend, [running]) as bell:
        wait_until(lambda: not stops and sleeping(url, worker_id) != [])
        other.stop(running.task_id, ALICE)
        heard = {bell.get(timeout=5)}
        while running.task_id not in heard:
            heard.add(bell.get(timeout=5))


@pytest.mark.usefixtures("seldom_polls")
def test_a_stop_rings_a_listener_whose_predecessor_ends_late(
    url: str, open_backend: Open
) -> None:
    # Without a ring, it is heard at the end of a sleep, which takes 5 s.
    backend, other, record = open_backend(url), open_backend(url), new_record()
    backend.announce(record)
    bell: SimpleQueue[str] = SimpleQueue()

    def heard(task_ids: Collection[str]) -> None:
        for task_id in task_ids:
            bell.put(task_id)

    def begin(closing: threading.Event) -> threading.Thread:
        arguments = (record.worker_id, lambda: [record.task_id], heard, closing)
        thread = threading.Thread(target=backend.listen, args=arguments)
        thread.start()
        return thread

    def is_asleep() -> bool:
        return len(sleeping(url, record.worker_id)) == 1

    before, closing = threading.Event(), threading.Event()
    predecessor = begin(before)
    wait_until(is_asleep)
    before.set()
    # As with a task that begins right after the last one has ended.
    listener = begin(closing)
    predecessor.join(10)
    wait_until(is_asleep)
    other.stop(record.task_id, ALICE)
    assert bell.get(timeout=3) == record.task_id
    closing.set()
    listener.join(10)


def test_a_stop_after_one_at_the_end_of_a_sleep_rings_too(
    url: str, open_backend: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without a ring, it is heard at the end of the next sleep.
    monkeypatch.setattr(sleeping_query, "TRUSTING", 60.0)
    backend, other, worker_id = open_backend(url), open_backend(url), new_worker()
    first, second = (new_record(worker_id=worker_id) for _ in range(2))
    backend.renew([first, second])
    query = """SELECT extract(epoch FROM now() - query_start)::float
        FROM pg_stat_activity WHERE application_name = %s"""

    def age_of_sleep() -> float:
        row = looking.execute(query, [f"chatstop {worker_id}"]).fetchone()
        return row[0] if row else 0.0

    with (
        psycopg.connect(url, autocommit=True) as looking,
        listening(backend, [first, second]) as bell,
    ):
        # Of 5 s. On a busy machine the stop may come too late to show a fault.
        wait_until(lambda: age_of_sleep() > 4.78)
        other.stop(first.task_id, ALICE)
        assert bell.get(timeout=5) == first.task_id
        wait_until(lambda: 0 < age_of_sleep() < 1)
        other.stop(second.task_id, ALICE)
        while bell.get(timeout=3) != second.task_id:
            pass  # the first one, from the poll after its ring


def test_a_process_that_is_not_the_listener_any_more_is_not_cancelled(
    url: str, open_backend: Open
) -> None:
    backend, other = open_backend(url), open_backend(url)
    record, innocent = new_record(), Innocent(url)
    backend.announce(record)
    with listening(backend, [record]) as bell:
        ask(
            url,
            "UPDATE chatstop_task SET owner_user = %s WHERE task_id = %s",
            str(innocent.pid),
            f"/listener/{record.worker_id}",
        )
        other.stop(record.task_id, ALICE)
        assert bell.get(timeout=5) == record.task_id
    innocent.join()
    assert innocent.result == ("not cancelled",)


def test_a_listener_of_another_role_is_found_by_its_poll_and_not_an_error(
    own_postgresql: PostgreSQLServer, open_backend: Open
) -> None:
    url, name = make_url(own_postgresql.url), f"u{new_worker()}"
    ask(own_postgresql.url, f"CREATE ROLE {name} LOGIN")
    ask(own_postgresql.url, f"GRANT ALL ON chatstop_task TO {name}")
    backend, other = open_backend(url), open_backend(url.set(username=name))
    record = new_record()
    backend.announce(record)
    logged = own_postgresql.log.stat().st_size
    with listening(backend, [record]) as bell:
        other.stop(record.task_id, ALICE)
        assert bell.get(timeout=5) == record.task_id
    assert own_postgresql.log.read_text()[logged:] == ""


@pytest.mark.parametrize("limit", [400, 100])
def test_the_log_of_slow_statements_has_no_sleeps(
    limit: int, own_postgresql: PostgreSQLServer, open_backend: Open
) -> None:
    url, record = own_postgresql.url, new_record()
    ask(url, f"ALTER SYSTEM SET log_min_duration_statement = {limit}")
    ask(url, "SELECT pg_reload_conf()")
    try:
        wait_until(lambda: ask(url, "SHOW log_min_duration_statement") != ["-1"])
        backend, other = open_backend(url), open_backend(url)
        backend.announce(record)
        with listening(backend, [record]) as bell:
            if limit == 400:
                wait_until(lambda: len(sleeping(url, record.worker_id)) == 1)
                before = own_postgresql.log.read_text()
                innocent = Innocent(url)
                innocent.join()
            other.stop(record.task_id, ALICE)
            assert bell.get(timeout=5) == record.task_id
        lines = own_postgresql.log.read_text().splitlines()
        assert not [line for line in lines if "chatstop" in line and "duration" in line]
        if limit == 400:
            assert "duration" in own_postgresql.log.read_text()[len(before) :]
    finally:
        ask(url, "ALTER SYSTEM RESET log_min_duration_statement")
        ask(url, "SELECT pg_reload_conf()")


def test_a_worker_whose_id_the_server_cannot_name_polls(
    url: str, open_backend: Open
) -> None:
    backend, other = open_backend(url), open_backend(url)
    record = new_record(worker_id="$chatstop$ quote ' \N{SNOWMAN}" + "x" * 200)
    backend.announce(record)
    with listening(backend, [record]) as bell:
        other.stop(record.task_id, ALICE)
        assert bell.get(timeout=5) == record.task_id


def test_a_process_that_exits_leaves_no_block_and_no_line_in_the_log(
    own_postgresql: PostgreSQLServer,
) -> None:
    logged = own_postgresql.log.stat().st_size
    code = f"""
        from tests.support.worker_app import WorkerApp
        from flask_chatstop.testing import wait_until

        app = WorkerApp({own_postgresql.url!r})
        chat = app.chat()
        wait_until(lambda: app.worker.backend.tasks())
        app.stop(chat)
        assert chat.ended.wait(5)
        print(app.worker.id)
        """
    worker_id = run(code).strip()
    # Sooner than the sleep is over by itself.
    wait_until(lambda: sleeping(own_postgresql.url, worker_id) == [], 3)
    assert own_postgresql.log.read_text()[logged:] == ""

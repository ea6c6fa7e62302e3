"""The sleeping query of a listener on MariaDB, and the kills that are stops."""

import queue
import re
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from typing import Any

import pymysql
import pytest
from pymysql.constants.COMMAND import COM_QUERY
from sqlalchemy import URL, create_engine, event, make_url, text

from flask_chatstop import TaskRecord
from flask_chatstop.backends.database import DatabaseBackend, sleeping_query
from flask_chatstop.testing import ALICE, listening, new_record, new_worker, wait_until
from tests.support.driver_connections import killed
from tests.support.resetting_proxy import ResettingProxy
from tests.support.scripts import run
from tests.support.servers.mariadb import MariaDBServer

Open = Callable[..., DatabaseBackend]


@pytest.fixture
def url(mariadb_url: str) -> Iterator[URL]:
    """A user that may use the test's database and nothing else."""
    url, name = make_url(mariadb_url), f"u{new_worker()}"
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE USER {name}@'%' IDENTIFIED BY 'word'"))
        connection.execute(text(f"GRANT ALL ON {url.database}.* TO {name}@'%'"))
    yield url.set(username=name, password="word")
    with engine.begin() as connection:
        connection.execute(text(f"DROP USER {name}@'%'"))
    engine.dispose()


@pytest.fixture
def seldom_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what no ring tells be heard at the end of a sleep, which takes 5 s."""
    monkeypatch.setattr(sleeping_query, "TRUSTING", 60.0)


def connect(url: URL) -> Any:
    return pymysql.connect(
        host=url.host,
        port=url.port or 3306,
        user=url.username,
        password=url.password or "",
        database=url.database,
        autocommit=True,
    )


def ask(url: URL, query: str) -> Any:
    with closing(connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return [row[0] for row in cursor.fetchall()]


def sleeping(url: URL, worker_id: str) -> list[int]:
    """Give the connections on which a query of this worker's sleeps."""
    found: list[int] = ask(
        url,
        "SELECT id FROM information_schema.processlist"
        f" WHERE info LIKE '%/* chatstop {worker_id} */'",
    )
    return found


def test_a_stop_kills_the_query_of_the_listener_and_no_other(
    url: URL, open_backend: Open
) -> None:
    backend, other = open_backend(url), open_backend(url)
    kills = killed(other)
    mine, theirs = new_record(), new_record()
    for record in (mine, theirs):
        backend.announce(record)
    # The user of this query is another app's too.
    query = "SELECT SLEEP(3) /* chatstop */"
    innocent = threading.Thread(target=lambda: results.extend(ask(url, query)))
    results: list[int] = []
    innocent.start()
    with listening(backend, [mine]) as bell, listening(backend, [theirs]) as silent:
        other.stop(mine.task_id, ALICE)
        assert bell.get(timeout=5) == mine.task_id
        assert len(kills) == 1
        assert silent.empty()
    innocent.join()
    assert results == [0]


def test_of_many_stops_at_once_one_kills(url: URL, open_backend: Open) -> None:
    backend, other, record = open_backend(url), open_backend(url), new_record()
    kills = killed(other)
    backend.announce(record)
    with listening(backend, [record]) as bell:
        for _ in range(5):
            other.stop(record.task_id, ALICE)
        assert bell.get(timeout=5) == record.task_id
    assert len(kills) == 1


@pytest.mark.usefixtures("seldom_polls")
def test_a_stop_is_heard_whose_kill_came_too_early_and_whose_commit_takes_long(
    own_mariadb: MariaDBServer, open_backend: Open
) -> None:
    url, worker_id = make_url(own_mariadb.url), new_worker()
    backend, other = open_backend(url), open_backend(url)
    first, second = (new_record(worker_id=worker_id) for _ in range(2))
    backend.renew([first, second])
    heard: queue.SimpleQueue[str] = queue.SimpleQueue()
    may_sleep, closing_down = threading.Event(), threading.Event()

    def note(task_ids: Collection[str]) -> None:
        for task_id in task_ids:
            heard.put(task_id)
        if task_ids:
            may_sleep.wait(10)

    ids = [first.task_id, second.task_id]
    listener = threading.Thread(
        target=backend.listen, args=(worker_id, lambda: ids, note, closing_down)
    )
    listener.start()
    wait_until(lambda: len(sleeping(url, worker_id)) == 1)
    other.stop(first.task_id, ALICE)
    assert heard.get(timeout=5) == first.task_id
    with closing(connect(url)) as connection, connection.cursor() as cursor:
        for stage in ("START", "FLUSH", "BLOCK_DDL", "BLOCK_COMMIT"):
            cursor.execute(f"BACKUP STAGE {stage}")
        stop = threading.Thread(target=other.stop, args=(second.task_id, ALICE))
        stop.start()
        commits = "SELECT id FROM information_schema.processlist WHERE info = 'COMMIT'"
        wait_until(lambda: len(ask(url, commits)) == 1)
        may_sleep.set()
        while heard.get(timeout=4) != second.task_id:
            pass
        cursor.execute("BACKUP STAGE END")
    stop.join()
    closing_down.set()
    listener.join()


class SlowProxy(ResettingProxy):
    """A way to the server on which a query is killed early, and the next comes late."""

    EARLY = b"SIGNAL SQLSTATE '70100' SET MYSQL_ERRNO = 1317"
    QUERY = re.compile(rb"SELECT GET_LOCK[^*]*?/\* chatstop .*? \*/")

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.count = 0
        self.kills_early = self.is_late = False
        self.waits, self.goes_on = threading.Event(), threading.Event()

    def change_command(self, command: bytes) -> bytes:
        found = self.QUERY.search(command)
        self.count += found is not None
        if found and self.is_late:
            self.waits.set()
            self.goes_on.wait(10)
        elif found and self.kills_early:
            self.is_late = True
            return command.replace(found[0], self.EARLY.ljust(len(found[0])))
        return command


def queries(backend: DatabaseBackend, name: str) -> list[str]:
    """Give a list to which each query is added that has a name in it."""
    found: list[str] = []

    @event.listens_for(backend.engine, "before_cursor_execute")
    def note(connection: object, cursor: object, query: str, *_: object) -> None:
        if name in query:
            found.append(query)

    return found


@pytest.mark.usefixtures("seldom_polls")
def test_a_stop_is_heard_that_comes_before_a_query_which_follows_an_early_kill(
    url: URL, open_backend: Open
) -> None:
    worker_id = new_worker()
    first, second = (new_record(worker_id=worker_id) for _ in range(2))
    other = open_backend(url)
    other.renew([first, second])
    with SlowProxy(url.port or 3306) as proxy:
        backend = open_backend(url, listen_url=url.set(port=proxy.port))
        with listening(backend, [first, second]) as bell:
            # The listener has rung itself, so it expects a ring for each stop.
            wait_until(lambda: proxy.count == 2 and bool(sleeping(url, worker_id)))
            proxy.kills_early = True
            other.stop(first.task_id, ALICE)
            assert proxy.waits.wait(5)
            count, checks = bell.qsize(), queries(backend, "IS_USED_LOCK")
            # The listener must not poll before its query has begun.
            wait_until(lambda: len(checks) > 1 or bell.qsize() > count)
            other.stop(second.task_id, ALICE)
            proxy.goes_on.set()
            while bell.get(timeout=4) != second.task_id:
                pass
        backend.close()


@pytest.mark.parametrize("module", ["mysql_queries", "mysql_listener", "none"])
def test_every_stop_of_a_burst_is_heard(
    module: str, url: URL, open_backend: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    if module != "none":  # each statement waits for the last one, as on MySQL
        name = f"flask_chatstop.backends.database.{module}.can_pipeline"
        monkeypatch.setattr(name, lambda driver: False)
    backend, other, worker_id = open_backend(url), open_backend(url), new_worker()
    records = [new_record(worker_id=worker_id) for _ in range(100)]
    backend.renew(records)

    # SLEEP() of MariaDB would hold some of them up for two seconds: the timeout.
    def stop(part: list[TaskRecord]) -> None:
        for record in part:
            other.stop(record.task_id, ALICE)

    with listening(backend, records) as bell:
        threads = [
            threading.Thread(target=stop, args=(records[start::4],))
            for start in range(4)
        ]
        for thread in threads:
            thread.start()
        missing = {record.task_id for record in records}
        while missing:
            missing.discard(bell.get(timeout=5))
        for thread in threads:
            thread.join()


def test_a_stop_is_heard_before_the_server_has_written_it_to_its_disk(
    own_mariadb: MariaDBServer, open_backend: Open
) -> None:
    url = make_url(own_mariadb.url)
    backend, other = open_backend(url), open_backend(url, timeout=10)
    records = [new_record(worker_id=new_worker()) for _ in range(2)]
    backend.create_table()
    backend.renew(records)
    returned = threading.Event()

    def stop() -> None:
        other.stop(records[0].task_id, ALICE)
        returned.set()

    with listening(backend, records) as bell, closing(connect(url)) as admin:
        wait_until(lambda: len(sleeping(url, records[0].worker_id)) == 1)
        with admin.cursor() as cursor:
            for stage in ("START", "FLUSH", "BLOCK_DDL", "BLOCK_COMMIT"):
                cursor.execute(f"BACKUP STAGE {stage}")
            stopping = threading.Thread(target=stop)
            stopping.start()
            assert bell.get(timeout=5) == records[0].task_id
            assert not returned.is_set()
            cursor.execute("BACKUP STAGE END")
        stopping.join()
        assert returned.is_set()


def test_a_listener_that_ends_leaves_no_query_behind(
    url: URL, open_backend: Open
) -> None:
    backend, record = open_backend(url), new_record()
    backend.announce(record)
    with listening(backend, [record]):
        wait_until(lambda: len(sleeping(url, record.worker_id)) == 1)
    # Sooner than the sleep is over by itself.
    wait_until(lambda: sleeping(url, record.worker_id) == [], 3)


def test_a_listener_takes_over_from_one_whose_connection_is_lost(
    url: URL, open_backend: Open
) -> None:
    backend, other, record = open_backend(url), open_backend(url), new_record()
    kills = killed(other)
    backend.announce(record)
    lost = connect(url)
    with lost.cursor() as cursor:
        cursor.execute(f"SELECT GET_LOCK('chatstop {record.worker_id}', 0)")
    lost._execute_command(COM_QUERY, "SELECT SLEEP(60)")
    # The server does not notice: the query sleeps on, and holds the lock.
    lost._force_close()
    with listening(backend, [record]) as bell:
        wait_until(lambda: len(sleeping(url, record.worker_id)) == 1)
        other.stop(record.task_id, ALICE)
        assert bell.get(timeout=5) == record.task_id
        assert len(kills) == 1


def test_a_stop_that_does_not_find_the_query_is_found_by_a_poll(
    url: URL, own_mariadb: MariaDBServer, open_backend: Open
) -> None:
    """As on two nodes of a cluster: the stop is sent to the other one."""
    node = make_url(own_mariadb.url)
    backend, other = open_backend(url, listen_url=node), open_backend(url)
    kills = killed(other)
    record = new_record()
    backend.announce(record)
    with listening(backend, [record]) as bell:
        wait_until(lambda: len(sleeping(node, record.worker_id)) == 1)
        other.stop(record.task_id, ALICE)
        assert bell.get(timeout=5) == record.task_id
    assert len(kills) == 0


class NumberingProxy(ResettingProxy):
    """A proxy that tells its clients numbers of its own, as ProxySQL does."""

    GREETING = b"\0\0\0\n"

    def change(self, answer: bytes) -> bytes:
        if answer[1:5] != self.GREETING:
            return answer
        number = answer.index(0, 5) + 1  # after the version, as text
        return answer[:number] + b"\7\0\0\0" + answer[number + 4 :]


@pytest.mark.parametrize("who", ["stops", "listens"])
def test_nothing_is_killed_through_a_proxy_that_numbers_connections_itself(
    who: str, url: URL, open_backend: Open
) -> None:
    with NumberingProxy(url.port or 3306) as proxy:
        proxied = url.set(port=proxy.port)
        backend = open_backend(proxied if who == "listens" else url)
        other = open_backend(proxied if who == "stops" else url)
        kills = killed(other)
        record = new_record()
        backend.announce(record)
        with listening(backend, [record]) as bell:
            other.stop(record.task_id, ALICE)
            assert bell.get(timeout=5) == record.task_id
        assert len(kills) == 0
        backend.close()
        other.close()


def test_a_worker_whose_id_the_server_cannot_name_polls(
    url: URL, open_backend: Open
) -> None:
    backend, other = open_backend(url), open_backend(url)
    record = new_record(worker_id="*/ quote ' \N{SNOWMAN}" + "x" * 200)
    backend.announce(record)
    with listening(backend, [record]) as bell:
        other.stop(record.task_id, ALICE)
        assert bell.get(timeout=5) == record.task_id


def test_a_limit_on_the_time_of_statements_ends_no_sleep(
    own_mariadb: MariaDBServer, open_backend: Open
) -> None:
    url = make_url(own_mariadb.url)
    ask(url, "SET GLOBAL max_statement_time = 0.2")
    try:
        backend, record = open_backend(url), new_record()
        backend.announce(record)
        with listening(backend, [record]):
            wait_until(lambda: is_asleep_for(url, record.worker_id, 1))
    finally:
        ask(url, "SET GLOBAL max_statement_time = 0")


def is_asleep_for(url: URL, worker_id: str, seconds: int) -> bool:
    query = (
        "SELECT 1 FROM information_schema.processlist"
        f" WHERE info LIKE '%{worker_id}%' AND info LIKE '%*/'"
        f" AND time >= {seconds}"
    )
    found: list[int] = ask(url, query)
    return found == [1]


def test_under_gevent_other_greenlets_run_while_the_query_sleeps(url: URL) -> None:
    printed = run(f"""
        from gevent import monkey; monkey.patch_all()
        import threading
        from flask_chatstop.backends.database import DatabaseBackend
        from flask_chatstop.testing import ALICE, listening, new_record, wait_until
        from tests.support.driver_connections import killed

        url = {url.render_as_string(hide_password=False)!r}
        backend, other = DatabaseBackend(url), DatabaseBackend(url)
        kills = killed(other)
        record = new_record()
        backend.announce(record)
        turns = []
        done = threading.Event()

        def turn():
            while not done.wait(0.01):
                turns.append(1)

        thread = threading.Thread(target=turn)
        thread.start()
        with listening(backend, [record]) as bell:
            wait_until(lambda: len(turns) > 30)
            other.stop(record.task_id, ALICE)
            assert bell.get(timeout=5) == record.task_id
            assert len(kills) == 1
        done.set()
        thread.join()
        backend.close()
        other.close()
        print("heard")
        """)
    assert printed == "heard\n"

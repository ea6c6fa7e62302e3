"""Who writes an answer to a database rings those who follow it in other processes."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Engine,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    text,
    update,
)

from flask_chatstop import MemoryBackend
from flask_chatstop.backends.database import sleeping_query, sqlite_listener
from flask_chatstop.events import Record, database_listener
from flask_chatstop.events.database import DatabaseEventLog
from flask_chatstop.events.records import END
from flask_chatstop.testing import wait_until
from flask_chatstop.testing.events import HEAD, new_log_id
from tests.support.follow import FollowedApp, Gate
from tests.support.scripts import run
from tests.support.servers.pgbouncer import pgbouncer

Open = Callable[..., DatabaseEventLog]
#: Selects the connection of a listener on MariaDB.
HOLDER = """SELECT IS_USED_LOCK(CONCAT('chatstop ', listener)) FROM chatstop_follower
    ORDER BY 1 DESC LIMIT 1"""
#: What a statement that reads a page has.
PAGE = "chatstop_event.number, chatstop_event.data"
#: Seconds: longer than any test waits.
NEVER = 100.0


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
def open_log(url: str) -> Iterator[Open]:
    """Open the logs of several processes on one database, which nobody follows yet."""
    logs: list[DatabaseEventLog] = []

    def open_log(of: str | Engine = url, **options: Any) -> DatabaseEventLog:
        logs.append(DatabaseEventLog(of, **options))
        return logs[-1]

    first = open_log()
    first.create_table()
    with first.engine.connect() as connection:
        connection.execute(delete(first.tables[1]))
    yield open_log
    for log in logs:
        log.close()


@pytest.fixture
def rings_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no poll find anything within the time of a test."""
    monkeypatch.setattr(sleeping_query, "TRUSTING", NEVER)
    monkeypatch.setattr(sleeping_query, "DOUBTING", NEVER)
    monkeypatch.setattr(sqlite_listener, "_SELDOM", NEVER)
    monkeypatch.setattr(sqlite_listener, "_OFTEN", NEVER)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is followed no more be left soon."""
    monkeypatch.setattr(database_listener, "RENEWAL", 0.2)


class Following:
    """A process that follows one answer, and reads what comes."""

    def __init__(self, log: DatabaseEventLog, log_id: str) -> None:
        self.log, self.log_id = log, log_id
        self.read: list[int] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        wait_until(lambda: is_listening(log, log_id))

    def _read(self) -> None:
        last = 0
        while last != END:
            self.log.wait(self.log_id, last, NEVER)
            page = self.log.read(self.log_id, last)
            assert page is not None
            self.read += [record.number for record in page.records]
            last = self.read[-1] if self.read else 0

    def has_read(self, number: int) -> bool:
        """Wait until it has read a record."""
        wait_until(lambda: number in self.read, 20)
        return True

    def end(self, writer: DatabaseEventLog) -> None:
        """Let the answer end, and it with it."""
        writer.append({self.log_id: [Record(END, b"")]})
        self._reading.join(20)
        assert self.read[-1] == END


def is_listening(log: DatabaseEventLog, log_id: str | None = None) -> bool:
    """Tell whether a process is known to who writes, and can be rung.

    :param log_id: what it follows, if others follow too.
    """
    c = log.tables[1].c
    query = select(c.state)
    if log_id is not None:
        query = query.where(
            c.listener.in_(select(c.listener).where(c.log_id == log_id))
        )
    with log.engine.connect() as connection:
        found = set(connection.scalars(query))
        kind = connection.dialect.name
        if kind == "postgresql":
            return found == {"follows", "asleep"}
        if kind == "sqlite":
            return found == {"follows"} and len(sockets(log)) > 0
        return connection.scalar(text(HOLDER)) is not None


def begin(writer: DatabaseEventLog) -> str:
    log_id = new_log_id()
    assert writer.append({log_id: [HEAD]}) == set()
    return log_id


def rows(log: DatabaseEventLog) -> int:
    """Return how many rows say that somebody follows, or listens."""
    with log.engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(log.tables[1])) or 0


def listeners() -> list[threading.Thread]:
    return [x for x in threading.enumerate() if x.name == "chatstop_log_listener"]


# a ring


@pytest.mark.usefixtures("rings_only")
def test_every_batch_and_the_end_ring_every_process_that_follows(
    open_log: Open,
) -> None:
    writer = open_log()
    log_id, others = begin(writer), begin(writer)
    followers = [Following(open_log(), log_id) for _ in range(2)]
    for number in (1, 2):
        # One record takes another way than several.
        writer.append({log_id: [Record(number, b"")]})
        assert all(follower.has_read(number) for follower in followers)
    writer.append({x: [Record(3, b""), Record(4, b"")] for x in (log_id, others)})
    assert all(follower.has_read(4) for follower in followers)
    writer.append({log_id: [Record(END, b"")]})
    for follower in followers:
        follower.end(writer)
        assert follower.read == [1, 2, 3, 4, END]


@pytest.mark.usefixtures("rings_only")
def test_many_answers_are_followed_by_one_thread(open_log: Open) -> None:
    before = len(listeners())
    writer, elsewhere = open_log(), open_log()
    log_ids = [begin(writer) for _ in range(20)]
    followers = [Following(elsewhere, log_id) for log_id in log_ids]
    assert len(listeners()) == before + 1
    for number, follower in enumerate(followers, 1):
        writer.append({follower.log_id: [Record(number, b"")]})
        assert follower.has_read(number)
    for number, follower in enumerate(followers, 1):
        follower.end(writer)
        assert follower.read == [number, END]


def test_who_follows_another_answer_forgets_those_that_are_over(
    open_log: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_listener, "RENEWAL", NEVER)
    writer, elsewhere = open_log(), open_log()
    stays = Following(elsewhere, begin(writer))
    for _ in range(3):
        Following(elsewhere, begin(writer)).end(writer)
    follower = Following(elsewhere, begin(writer))
    c = elsewhere.tables[1].c

    def followed() -> set[str]:
        query = select(c.log_id).where(c.state == "follows")
        with elsewhere.engine.connect() as connection:
            return set(connection.scalars(query))

    wait_until(lambda: followed() == {stays.log_id, follower.log_id})
    for each in (stays, follower):
        each.end(writer)


def test_a_page_is_read_once(open_log: Open) -> None:
    writer, elsewhere = open_log(), open_log()
    follower = Following(elsewhere, begin(writer))
    read: list[str] = []

    @event.listens_for(elsewhere.engine, "before_cursor_execute")
    def note(*arguments: Any) -> None:
        if PAGE in arguments[2]:
            read.append(arguments[2])

    for number in range(1, 6):
        writer.append({follower.log_id: [Record(number, b"")]})
        assert follower.has_read(number)
    follower.end(writer)
    assert len(read) == 6


@pytest.mark.usefixtures("rings_only")
def test_an_end_comes_with_its_ring(open_log: Open) -> None:
    writer, elsewhere = open_log(), open_log()
    source, backend = Gate("One "), MemoryBackend()
    here, there = (
        FollowedApp({"CHATSTOP_BACKEND": backend, "CHATSTOP_EVENTS": log}, source)
        for log in (writer, elsewhere)
    )
    first = here.ask()
    follower = there.follow(first.task_id)
    source.go_on()
    sent, read = first.read_until(b"One "), follower.read_until(b"One ")
    with ThreadPoolExecutor(1) as pool:
        rest = pool.submit(follower.rest)
        wait_until(lambda: is_listening(elsewhere))
        statements = note_statements(writer, elsewhere)
        source.go_on()
        sent += first.rest()
        read += rest.result(20)
    assert read == sent
    assert not [x for x in statements if PAGE in x]
    added = [x for x in statements if x.startswith("INSERT INTO chatstop_event")]
    # Elsewhere it goes past SQLAlchemy, together with the ring.
    assert len(added) == (writer.engine.dialect.name == "sqlite")
    for app in (here, there):
        app.close()


def note_statements(*logs: DatabaseEventLog) -> list[str]:
    """Return what SQLAlchemy executes for logs from now on."""
    statements: list[str] = []

    def note(*arguments: Any) -> None:
        statements.append(arguments[2])

    for log in logs:
        event.listen(log.engine, "before_cursor_execute", note)
    return statements


# SQLite cannot lock one table alone.
@pytest.mark.parametrize("url", ["postgresql", "mariadb"], indirect=True)
def test_a_record_that_is_added_is_no_failure_where_the_ring_is(
    url: str, open_log: Open
) -> None:
    # No limit of the server's ends the ring on an app's connections.
    engine = create_engine(open_log().engine.url)
    writer, other = open_log(engine, timeout=2.0), open_log()
    log_id = begin(writer)
    lock, unlock = "LOCK TABLES chatstop_follower WRITE", "UNLOCK TABLES"
    if url.startswith("postgresql"):
        lock, unlock = "LOCK TABLE chatstop_follower", "ROLLBACK"
    with other.engine.connect() as connection:
        if url.startswith("postgresql"):
            connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql(lock)
        assert writer.append({log_id: [Record(1, b"1")]}) == set()
        connection.exec_driver_sql(unlock)
    assert writer.append({log_id: [Record(2, b"2")]}) == set()
    page = writer.read(log_id, 0)
    assert page is not None
    assert page.records == [Record(1, b"1"), Record(2, b"2")]
    writer.close()
    engine.dispose()


def test_on_mariadb_what_is_heard_before_it_is_committed_is_read_too(
    mariadb_url: str,
) -> None:
    with (
        closing(DatabaseEventLog(mariadb_url)) as writer,
        closing(DatabaseEventLog(mariadb_url)) as elsewhere,
    ):
        writer.create_table()
        log_id = begin(writer)
        records = [Record(1, b"1"), Record(END, b"\xffend")]
        own = writer.engine.execution_options(isolation_level="READ COMMITTED")
        with own.begin() as connection:
            for number, data in records:
                row = {"log_id": log_id, "number": number, "data": data}
                connection.execute(insert(writer.tables[0]), row)
                elsewhere.wait(log_id, number - 1, 3.0)
                page = elsewhere.read(log_id, 0)
                assert page is not None
                assert page.records[-1] == (number, data)
            # A poll that did not see it would take back what a ring has told.
            for _ in range(10):
                assert elsewhere.wait(log_id, 0, 3.0) == records[-1]
                threading.Event().wait(0.05)


@pytest.mark.usefixtures("rings_only")
def test_answers_of_two_workers_reach_one_another(open_log: Open) -> None:
    logs = [open_log(), open_log()]
    gates = [Gate("One ", "two"), Gate("Three ", "four")]
    backend = MemoryBackend()
    apps = [
        FollowedApp({"CHATSTOP_BACKEND": backend, "CHATSTOP_EVENTS": log}, pieces=gate)
        for log, gate in zip(logs, gates, strict=True)
    ]
    firsts = [app.ask() for app in apps]
    followers = [
        app.follow(first.task_id)
        for app, first in zip(apps, reversed(firsts), strict=True)
    ]
    for gate in gates:
        gate.go_on(3)
    with ThreadPoolExecutor(2) as pool:
        rests = [pool.submit(follower.rest) for follower in followers]
        sent = [first.rest() for first in reversed(firsts)]
        assert [rest.result(30) for rest in rests] == sent
    for app in apps:
        app.close()


# no ring


def test_what_nobody_has_rung_for_is_found_all_the_same(open_log: Open) -> None:
    writer, elsewhere = open_log(), open_log()
    follower = Following(elsewhere, begin(writer))
    with writer.engine.begin() as connection:  # as by a writer that knows no followers
        row = {"log_id": follower.log_id, "number": 1, "data": b""}
        connection.execute(insert(writer.tables[0]), row)
    assert follower.has_read(1)
    follower.end(writer)


def test_an_answer_that_is_newly_followed_is_not_taken_for_a_lost_ring(
    open_log: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sleeping_query, "TRUSTING", 0.2)
    monkeypatch.setattr(sleeping_query, "DOUBTING", 0.005)
    writer, elsewhere = open_log(), open_log()
    first = Following(elsewhere, begin(writer))
    polls: list[str] = []

    @event.listens_for(elsewhere.engine, "before_cursor_execute")
    def note(*arguments: Any) -> None:
        if "max(chatstop_event.number)" in arguments[2]:
            polls.append(arguments[2])

    log_id = begin(writer)
    writer.append({log_id: [Record(1, b"")]})
    second = Following(elsewhere, log_id)
    assert second.has_read(1)
    polls.clear()
    threading.Event().wait(1.0)
    assert len(polls) < 30
    for follower in (first, second):
        follower.end(writer)


@pytest.mark.usefixtures("hasty")
def test_a_database_that_has_lost_who_follows_is_told_again(open_log: Open) -> None:
    writer, elsewhere = open_log(), open_log()
    follower = Following(elsewhere, begin(writer))
    follows = elsewhere.tables[1].c.state == "follows"
    with writer.engine.begin() as connection:
        connection.execute(delete(elsewhere.tables[1]).where(follows))
    wait_until(lambda: is_listening(elsewhere, follower.log_id))
    writer.append({follower.log_id: [Record(1, b"")]})
    assert follower.has_read(1)
    follower.end(writer)


def test_a_listener_whose_connection_is_cut_listens_again(
    request: pytest.FixtureRequest, url: str, open_log: Open
) -> None:
    if not url.startswith("sqlite"):  # where a lost socket is seen by a poll
        request.getfixturevalue("rings_only")
    writer, elsewhere = open_log(), open_log()
    follower = Following(elsewhere, begin(writer))
    cut(url, writer)
    numbers = iter(range(1, 10_000))

    def is_rung() -> bool:
        number = next(numbers)
        writer.append({follower.log_id: [Record(number, b"")]})
        with suppress(AssertionError):
            wait_until(lambda: number in follower.read, 0.3)
        return number in follower.read

    wait_until(is_rung, 30)
    if url.startswith("sqlite"):
        wait_until(lambda: len(sockets(writer)) == 1)
    follower.end(writer)


def cut(url: str, log: DatabaseEventLog) -> None:
    """Cut the connection of the only listener, or remove its socket."""
    with log.engine.connect() as connection:
        if url.startswith("sqlite"):
            [socket] = sockets(log)
            socket.unlink()
            return
        query = "SELECT pg_terminate_backend(CAST(number AS integer))"
        query += " FROM chatstop_follower WHERE state = 'asleep'"
        if not url.startswith("postgresql"):
            query = f"KILL {connection.scalar(text(HOLDER)):d}"
        connection.execute(text(query))


def sockets(log: DatabaseEventLog) -> list[Path]:
    return list(Path(str(log.engine.url.database)).parent.glob("*-ring-*"))


def test_behind_a_pooler_it_polls(postgresql_url: str) -> None:
    with closing(DatabaseEventLog(postgresql_url)) as log:
        log.create_table()
    with pgbouncer(postgresql_url) as pooled:
        writer, elsewhere = DatabaseEventLog(pooled), DatabaseEventLog(pooled)
        log_id = begin(writer)
        for number in range(1, 4):
            timer = threading.Timer(
                0.1, writer.append, [{log_id: [Record(number, b"")]}]
            )
            timer.start()
            begun = time.monotonic()
            elsewhere.wait(log_id, number - 1, 20.0)
            assert time.monotonic() - begun < 10
            timer.join()
            page = elsewhere.read(log_id, number - 1)
            assert page is not None and page.records == [Record(number, b"")]
        writer.close()
        elsewhere.close()


# nothing stays


@pytest.mark.usefixtures("hasty")
def test_who_leaves_leaves_no_row_no_thread_and_no_connection(open_log: Open) -> None:
    before = len(listeners())
    writer, elsewhere = open_log(), open_log()
    followers = [Following(elsewhere, begin(writer)) for _ in range(3)]
    for follower in followers:
        follower.end(writer)
    wait_until(lambda: rows(writer) == 0, 20)
    wait_until(lambda: len(listeners()) == before)
    again = Following(elsewhere, begin(writer))
    again.end(writer)
    wait_until(lambda: rows(writer) == 0, 20)


def test_a_log_that_is_closed_leaves_no_row(open_log: Open) -> None:
    before = len(listeners())
    writer, elsewhere = open_log(), open_log()
    follower = Following(elsewhere, begin(writer))
    follower.end(writer)
    assert rows(writer) > 0
    elsewhere.close()
    assert rows(writer) == 0
    wait_until(lambda: len(listeners()) == before)


def test_rows_of_a_process_that_was_killed_are_purged_and_not_rung(
    open_log: Open,
) -> None:
    writer, elsewhere = open_log(), open_log()
    follower = Following(elsewhere, begin(writer))
    _, table = writer.tables
    gone = update(table).values(listener=table.c.listener, expires_at=0.0)
    follower.end(writer)
    elsewhere.close()
    with writer.engine.begin() as connection:
        row = {"listener": "gone", "log_id": "x", "number": "", "state": "follows"}
        connection.execute(insert(table), row | {"expires_at": 0.0})
        connection.execute(gone)
    writer.append({begin(writer): [Record(1, b"")]})
    writer.purge()
    assert rows(writer) == 0


# processes


@pytest.mark.slow
@pytest.mark.parametrize("patch", ["", "from gevent import monkey; monkey.patch_all()"])
def test_a_forked_child_follows_as_its_parent_does(url: str, patch: str) -> None:
    printed = run(
        f"""
        {patch}
        import os, sys
        from flask_chatstop.events import Record
        from flask_chatstop.events.database import DatabaseEventLog
        from flask_chatstop.events.writer import EventWriter
        from tests.support.follow import FollowedApp

        writer = DatabaseEventLog({url!r}, timeout=20)
        writer.create_table()
        log = DatabaseEventLog({url!r}, timeout=20)
        EventWriter(log).after_fork()
        log_id = os.urandom(32).hex()
        writer.append({{log_id: [Record(0, b"")]}})
        log.wait(log_id, 0, 0.2)
        writer.close()
        keep = EventWriter(log)
        child = os.fork()
        writer.after_fork()
        number = 1 if child else 2
        own = os.urandom(32).hex()
        writer.append({{own: [Record(0, b"")]}})
        log.wait(own, 0, 0.2)
        writer.append({{own: [Record(number, b"")]}})
        log.wait(own, 0, 20.0)
        assert log.read(own, 0).records[0].number == number
        log.close()
        writer.close()
        if child == 0:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print("both are fine")
        """
    )
    assert printed == "both are fine\n"


@pytest.mark.slow
def test_under_gevent_a_forked_child_leaves_the_listener_to_its_parent(
    url: str,
) -> None:
    printed = run(
        f"""
        from gevent import monkey; monkey.patch_all()
        import logging, os, sys, time
        from flask_chatstop.events import Record
        from flask_chatstop.events.database import DatabaseEventLog
        from flask_chatstop.events.writer import EventWriter

        logging.basicConfig(stream=sys.stdout, level="WARNING")
        log, writer = (
            DatabaseEventLog({url!r}, timeout=20) for _ in range(2)
        )
        keep = EventWriter(log), EventWriter(writer)
        log.create_table()
        log_id = os.urandom(32).hex()
        writer.append({{log_id: [Record(0, b"")]}})
        log.wait(log_id, 0, 1.0)
        if child := os.fork():
            for number in range(1, 40):
                writer.append({{log_id: [Record(number, b"")]}})
                log.wait(log_id, number - 1, 20.0)
                assert log.read(log_id, number - 1).records[0].number == number
                time.sleep(0.05)
            os.kill(child, 9)
            os.waitpid(child, 0)
            log.close()
            writer.close()
            print("heard all")
        else:
            time.sleep(20)
        """
    )
    assert printed == "heard all\n"

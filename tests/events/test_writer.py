"""The thread that writes answers: at the exit, over a fork, and when it has no work."""

import threading
from typing import Any

import pytest

from flask_chatstop import Owner
from flask_chatstop.events import MemoryEventLog
from flask_chatstop.events.database import DatabaseEventLog
from flask_chatstop.events.records import END, log_id_of, unpack
from flask_chatstop.state import AppState
from tests.support.follow import FollowedApp, Gate
from tests.support.scripts import run


def test_ends_that_were_flushed_are_written() -> None:
    is_open = threading.Event()

    class Slow(MemoryEventLog):
        def append(self, logs: Any) -> set[str]:
            assert is_open.wait(10)
            return super().append(logs)

    app = FollowedApp({"CHATSTOP_EVENTS": Slow()})
    first = app.ask()
    sent = first.rest()
    with app.app.app_context():
        assert app.chatstop.flush(timeout=0.01) is False
        is_open.set()
        assert app.chatstop.flush() is True
    assert app.follow(first.task_id).rest() == sent


def test_much_is_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Gate(*["x" * 60_000] * 60)
    app = FollowedApp(pieces=source)
    first = app.ask()
    follower = app.follow(first.task_id)
    assert follower.next() == first.next()
    monkeypatch.setattr("flask_chatstop.events.due._BATCH", 30)
    for number in range(0, 60, 3):
        source.go_on(3)
        sent = first.read_until(b"id: %d\n" % (number + 4))
        assert follower.read_until(b"id: %d\n" % (number + 4)) == sent
    source.go_on()
    rest = first.rest()
    assert follower.rest() == rest


def test_an_end_is_written_when_its_client_has_got_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Otherwise the writer's thread would delay the client's last bytes.
    monkeypatch.setattr("flask_chatstop.events.due._LAST_BYTES", 60.0)
    source = Gate("One ")
    app = FollowedApp(pieces=source)
    first = app.ask()
    follower = app.follow(first.task_id)
    source.go_on()
    sent = first.read_until(b"One")
    assert follower.read_until(b"One") == sent
    app.stop(first.task_id)
    end = first.rest()
    assert b"stopped" in end
    writer = AppState.of(app.app).event_writer
    assert writer is not None
    log_id = log_id_of(first.task_id, app.tasks[0].record.owner)
    threading.Event().wait(0.1)  # two batches
    page = writer.events.read(log_id, END - 1)
    assert page is not None and not page.records
    first.leave()
    assert follower.rest() == end


def test_an_end_whose_client_takes_no_more_is_written_all_the_same() -> None:
    app = FollowedApp(pieces=Gate("One "))
    first = app.ask()
    first.next()
    follower = app.follow(first.task_id)
    app.stop(first.task_id)
    end = first.rest()  # whose connection stays open
    assert follower.rest().endswith(end)


def test_what_a_process_has_sent_is_written_when_it_exits(sqlite_url: str) -> None:
    printed = run(
        f"""
        from tests.support.follow import FollowedApp, Gate

        source = Gate("One ", "two")
        app = FollowedApp({{"CHATSTOP_EVENTS": {sqlite_url!r}}}, pieces=source)
        first = app.ask()
        source.go_on()
        first.read_until(b"One")
        print(first.task_id, *app.tasks[0].record.owner)
        """
    )
    assert _end_of(printed, sqlite_url).endswith(
        b'data: {"end_reason":"failed","message":"The answer could not be completed."}'
        b"\n\n"
    )


def test_a_forked_child_writes_answers_of_its_own(sqlite_url: str) -> None:
    printed = run(
        f"""
        import os
        from tests.support.follow import FollowedApp

        app = FollowedApp({{"CHATSTOP_EVENTS": {sqlite_url!r}}})
        app.ask().rest()
        if pid := os.fork():
            assert os.waitpid(pid, 0)[1] == 0
        else:
            first = app.ask()
            first.rest()
            print(first.task_id, *app.tasks[-1].record.owner)
        """
    )
    end = b'event: end\nid: 4\ndata: {"end_reason":"finished"}\n\n'
    assert _end_of(printed, sqlite_url) == end


def _end_of(printed: str, url: str) -> bytes:
    """Return the last frame of the task that a program has printed."""
    task_id, *owner = printed.split()
    log = DatabaseEventLog(url)
    page = log.read(log_id_of(task_id, Owner(*owner)), END - 1)
    log.close()
    assert page is not None
    return unpack(page.records[-1].data).frames[-1]

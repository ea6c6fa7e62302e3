"""What happens to answers and their followers when a log or a worker is lost."""

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from flask_chatstop import (
    BackendError,
    EndReason,
    MemoryBackend,
    Owner,
    RecordRefused,
    TaskInfo,
    TaskRecord,
)
from flask_chatstop.events import MemoryEventLog, Record
from flask_chatstop.events.follower import Lost
from flask_chatstop.events.records import END, HEAD, Head, log_id_of, pack
from flask_chatstop.formats import (
    DifyEvents,
    JSONLines,
    OpenAIChunks,
    PlainText,
    ServerSentEvents,
    StreamFormat,
    UIMessageStream,
)
from flask_chatstop.state import AppState
from flask_chatstop.testing import wait_until
from tests.support.follow import FollowedApp, Gate

ALICE = Owner("demo", "service-api", "alice")
LOST = b"event: lost\ndata: {}\n\n"


class BreakableLog(MemoryEventLog):
    """A log that can hang, be away, refuse a text, or lose its data."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.is_away = False
        self.refused = b"never"
        self.go_on = threading.Event()
        self.go_on.set()
        self.has_tried = threading.Event()

    def append(self, logs: Mapping[str, Sequence[Record]]) -> set[str]:
        self.has_tried.set()
        assert self.go_on.wait(30)
        if self.is_away:
            raise BackendError("the log is away")
        if any(self.refused in x.data for records in logs.values() for x in records):
            raise RecordRefused("the log refuses it")
        return super().append(logs)

    def forget_everything(self) -> None:
        self.after_fork()


def written(app: FollowedApp) -> bool:
    """Wait until the log has every answer that is over."""
    writer = AppState.of(app.app).event_writer
    return writer is not None and writer.flush(10)


# the log is slow or away


def test_a_log_that_hangs_delays_no_chunk_and_no_stop() -> None:
    events = BreakableLog()
    events.go_on.clear()
    source = Gate("One ", "two ")
    app = FollowedApp({"CHATSTOP_EVENTS": events}, pieces=source)
    first = app.ask()
    assert events.has_tried.wait(10)
    source.go_on(2)
    sent = first.read_until(b"two")
    assert app.stop(first.task_id).status_code == 200
    sent += first.rest()
    assert b"stopped" in sent
    events.go_on.set()
    assert app.follow(first.task_id).rest() == sent


def test_what_was_sent_while_the_log_was_away_is_there_afterwards() -> None:
    events = BreakableLog()
    events.is_away = True
    app = FollowedApp({"CHATSTOP_EVENTS": events})
    answers = [app.ask() for _ in range(3)]
    sent = [answer.rest() for answer in answers]
    assert events.has_tried.wait(10)
    events.is_away = False
    assert written(app)
    assert [app.follow(x.task_id).rest() for x in answers] == sent


def test_an_answer_that_is_faster_than_its_log_loses_nothing() -> None:
    events = BreakableLog()
    events.go_on.clear()
    app = FollowedApp({"CHATSTOP_EVENTS": events}, pieces=lambda _: ["x" * 6_000_000])
    first = app.ask()
    sent = first.rest()
    assert len(sent) > 6_000_000
    events.go_on.set()
    assert app.follow(first.task_id).rest() == sent


def test_a_log_that_was_away_for_long_says_that_frames_are_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flask_chatstop.events.answer._WAITING", 1_000_000)
    events = BreakableLog()
    events.is_away = True
    source = Gate(*["x" * 60_000] * 40, "late ", "later")
    app = FollowedApp({"CHATSTOP_EVENTS": events}, pieces=source)
    first = app.ask()
    source.go_on(40)
    sent = first.read_until(b"id: 41\n")
    assert len(sent) > 40 * 60_000
    events.is_away = False
    follower = app.follow(first.task_id)
    source.go_on(3)
    end = first.rest()[
        -len(b'event: end\nid: 44\ndata: {"end_reason":"finished"}\n\n') :
    ]
    everything = follower.rest()
    kept, missing, rest = everything.partition(LOST)
    assert sent.startswith(kept) and 900_000 < len(kept) <= 1_000_000
    assert (missing, rest) == (LOST, end)


def test_answers_take_a_bounded_memory_while_the_log_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flask_chatstop.events.due._MEMORY", 100_000)
    events = BreakableLog()
    events.is_away = True
    app = FollowedApp({"CHATSTOP_EVENTS": events}, pieces=lambda _: ["x" * 30_000])
    answers = [app.ask() for _ in range(9)]
    for answer in answers:
        answer.rest()
    writer = AppState.of(app.app).event_writer
    assert writer is not None
    wait_until(lambda: len(writer._due) <= 3)
    events.is_away = False
    assert written(app)
    statuses = [app.follow(x.task_id).status for x in answers]
    assert statuses == [404] * 6 + [200] * 3


# the log loses or refuses something


@pytest.mark.parametrize(
    ("make_format", "notice"),
    [
        (ServerSentEvents, b"event: lost\n"),
        (DifyEvents, b'{"event":"lost","task_id":'),
        (OpenAIChunks, b'"chatstop":{"lost":true}'),
        (UIMessageStream, b'{"type":"data-lost"'),
        (JSONLines, b'{"type":"lost"}\n'),
    ],
)
def test_an_answer_that_is_too_long_goes_on_and_says_that_a_part_is_missing(
    make_format: type[StreamFormat], notice: bytes
) -> None:
    events = BreakableLog(max_bytes=1000)
    source = Gate(*["word "] * 100)
    app = FollowedApp(
        {"CHATSTOP_EVENTS": events}, pieces=source, make_format=make_format
    )
    first = app.ask()
    source.go_on(100)
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(first.rest)
        follower = app.follow(first.task_id)
        read = follower.read_until(notice)  # before the end
        source.go_on()
        whole = sent.result(30)
    rest = follower.rest()
    assert whole.startswith(read[: read.index(notice) - 300])
    assert whole.endswith(rest) and len(rest) > 10
    assert app.follow(first.task_id).rest() == read + rest


def test_a_format_that_cannot_tell_of_a_loss_cuts_the_connection() -> None:
    events = BreakableLog(max_bytes=20)
    app = FollowedApp(
        {"CHATSTOP_EVENTS": events},
        pieces=lambda _: ["One ", "two ", "three ", "four "],
        make_format=PlainText,
    )
    first = app.ask()
    assert first.rest() == b"One two three four "
    assert written(app)
    follower = app.follow(first.task_id)
    assert follower.next() == b"One two "
    with pytest.raises(Lost):
        follower.rest()


def test_an_answer_whose_log_was_lost_says_so_and_goes_on_being_kept() -> None:
    events = BreakableLog()
    source = Gate("One ", "two ", "three ")
    app = FollowedApp({"CHATSTOP_EVENTS": events}, pieces=source)
    first = app.ask()
    source.go_on()
    sent = first.read_until(b"One")
    early = app.follow(first.task_id)
    assert early.read_until(b"One") == sent
    events.forget_everything()
    source.go_on()
    second = first.read_until(b"two")
    follower = app.follow(first.task_id)
    assert follower.next() == LOST + second
    source.go_on(2)
    rest = first.rest()
    assert follower.rest() == rest
    assert early.rest() == second + rest
    assert (
        app.follow(first.task_id, after=4).rest() == rest[rest.index(b"event: end") :]
    )


def test_a_refused_record_harms_no_other_answer() -> None:
    events = BreakableLog()
    events.refused = b"forbidden"
    source = Gate("One ", "forbidden ", "three ")
    app = FollowedApp({"CHATSTOP_EVENTS": events}, pieces=source)
    first = app.ask()
    source.go_on()
    sent = first.read_until(b"One")
    follower = app.follow(first.task_id)
    assert follower.read_until(b"One") == sent
    events.go_on.clear()
    source.go_on()
    first.read_until(b"forbidden")
    app.pieces = lambda _: ["harmless"]
    other = app.ask()
    unharmed = other.rest()
    events.go_on.set()
    assert follower.read_until(b"lost") == LOST
    source.go_on(2)
    rest = first.rest()
    assert follower.rest() == rest
    assert app.follow(other.task_id).rest() == unharmed


# a worker is lost


class ForgetfulBackend(MemoryBackend):
    """A store that can lose its data when it is looked at."""

    forgets = is_away = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.has_looked = threading.Event()
        self.has_forgotten = threading.Event()

    def tasks(self, **wanted: str | None) -> list[TaskInfo]:
        self.has_looked.set()
        if self.is_away:
            raise BackendError("the store is away")
        if self.forgets:
            self.after_fork()
            self.has_forgotten.set()
        return super().tasks(**wanted)


class KilledWorker:
    """What a worker leaves behind that was killed."""

    def __init__(self, lease: float) -> None:
        self.events = BreakableLog()
        self.backend = ForgetfulBackend(lease=lease, timeout=lease)
        self.record = TaskRecord("some-id", ALICE, "killed-worker")
        self.backend.announce(self.record)
        head = Head("text/event-stream", {}, 10.0, b"", LOST, b"id: end\n\n")
        log_id = log_id_of("some-id", ALICE)
        records = [Record(HEAD, head.packed()), Record(2, pack(1, [b"One ", b"two "]))]
        self.events.append({log_id: records})
        self.app = FollowedApp(
            {"CHATSTOP_BACKEND": self.backend, "CHATSTOP_EVENTS": self.events}
        )

    @property
    def is_known(self) -> bool:
        return bool(self.backend.tasks(task_id="some-id"))


def test_a_follower_is_told_of_a_killed_worker_when_the_lease_is_over() -> None:
    begun = time.monotonic()
    killed = KilledWorker(lease=6.0)
    # So that no regular look, one in three seconds, falls soon after its end.
    threading.Event().wait(2.5)
    follower = killed.app.follow("some-id")
    assert follower.next() == b"One two "
    assert follower.next() == b"id: end\n\n"
    assert 6.0 <= time.monotonic() - begun < 8.4
    assert not killed.is_known
    assert follower.rest() == b""
    assert killed.app.follow("some-id", "end").status == 204


def test_a_follower_who_comes_after_the_lease_waits_for_a_third_of_one() -> None:
    killed = KilledWorker(lease=6.0)
    wait_until(lambda: not killed.is_known)
    begun = time.monotonic()
    follower = killed.app.follow("some-id")
    assert follower.rest() == b"One two id: end\n\n"
    # A worker that is well makes its task known to an empty store within this time.
    assert 3.0 <= time.monotonic() - begun < 5.8


def test_a_follower_is_not_told_of_the_end_while_the_lease_runs() -> None:
    killed = KilledWorker(lease=3.0)  # of which a busy machine renews in time
    follower = killed.app.follow("some-id")
    assert follower.next() == b"One two "
    is_over = threading.Event()

    def renew() -> None:
        # Longer than a follower needs to be told of an end.
        for _ in range(25):
            killed.backend.renew([killed.record])
            is_over.wait(0.2)

    renewing = threading.Thread(target=renew)
    renewing.start()
    with ThreadPoolExecutor(1) as pool:
        rest = pool.submit(follower.rest)
        renewing.join()
        assert not rest.done()
        end = Record(END, pack(3, [b"three"]))
        killed.events.append({log_id_of("some-id", ALICE): [end]})
        assert rest.result(10) == b"three"


@pytest.mark.parametrize("is_away_first", [False, True])
def test_a_store_of_tasks_that_comes_back_empty_ends_no_answer(
    is_away_first: bool,
) -> None:
    killed = KilledWorker(lease=3.0)
    follower = killed.app.follow("some-id")
    assert follower.next() == b"One two "
    backend, is_over = killed.backend, threading.Event()

    def renew() -> None:
        while not is_over.wait(0.1):
            if not backend.forgets:
                backend.renew([killed.record])

    with ThreadPoolExecutor(2) as pool, ExitStack() as stack:
        renewing = pool.submit(renew)
        stack.callback(is_over.set)
        rest = pool.submit(follower.rest)
        assert backend.has_looked.wait(10)
        if is_away_first:
            backend.is_away = True
            is_over.wait(4.0)  # longer than the lease that was seen
            backend.is_away = False
        backend.forgets = True
        assert backend.has_forgotten.wait(10)
        is_over.wait(0.9)  # a worker renews its tasks after a second
        backend.forgets = False
        is_over.wait(3.0)
        assert not rest.done()
        end = Record(END, pack(3, [b"three"]))
        killed.events.append({log_id_of("some-id", ALICE): [end]})
        assert rest.result(10) == b"three"
    renewing.result()


def test_an_end_that_is_written_late_is_the_end() -> None:
    killed = KilledWorker(lease=4.0)
    follower = killed.app.follow("some-id")
    assert follower.next() == b"One two "
    killed.backend.end(killed.record, EndReason.FINISHED)
    killed.backend.has_looked.clear()
    end = Record(END, pack(3, [b"three"]))

    def write() -> None:
        assert killed.backend.has_looked.wait(10)
        killed.events.append({log_id_of("some-id", ALICE): [end]})

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        assert follower.rest() == b"three"
        writing.result()

"""Who comes back to an answer gets what was sent, byte for byte, and what comes."""

import os
import random
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from flask_chatstop import (
    EndReason,
    GenerationTask,
    MemoryBackend,
    Owner,
    TaskRecord,
)
from flask_chatstop.events import EventLog, MemoryEventLog, Page, Record, RedisEventLog
from flask_chatstop.events.database import DatabaseEventLog
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
from flask_chatstop.route import events as events_route
from flask_chatstop.testing import wait_until
from tests.support.follow import FollowedApp, Gate, Reading

#: How many answers are followed on each store.
ANSWERS = int(os.environ.get("CHATSTOP_FOLLOWED_ANSWERS", "4"))
FORMATS: list[type[StreamFormat]] = [
    DifyEvents,
    ServerSentEvents,
    OpenAIChunks,
    UIMessageStream,
    JSONLines,
    PlainText,
]

Workers = Callable[..., list[FollowedApp]]


@pytest.fixture(params=["memory", "sqlite", "postgresql", "mariadb", "redis"])
def store(request: pytest.FixtureRequest) -> str:
    store: str = request.param
    return "memory://" if store == "memory" else request.getfixturevalue(f"{store}_url")


def open_log(url: str, prefix: str = "") -> EventLog:
    if url.startswith("redis"):
        return RedisEventLog(url, prefix=prefix)
    if url == "memory://":
        return MemoryEventLog()
    log = DatabaseEventLog(url.replace("chatstop.db", "events.db"))
    log.create_table()
    return log


@pytest.fixture
def workers(store: str, request: pytest.FixtureRequest) -> Iterator[Workers]:
    """Open two workers of one app, which share their stores and nothing else."""
    logs: list[EventLog] = []
    apps: list[FollowedApp] = []
    prefix = ""
    if store.startswith("redis"):
        prefix = request.getfixturevalue("redis_prefix")

    def open_workers(**options: Any) -> list[FollowedApp]:
        backend = MemoryBackend()
        logs.append(open_log(store, prefix))
        logs.append(logs[0] if store == "memory://" else open_log(store, prefix))
        apps.extend(
            FollowedApp(
                {"CHATSTOP_BACKEND": backend, "CHATSTOP_EVENTS": log}, **options
            )
            for log in logs
        )
        return apps

    yield open_workers
    for app in apps:
        app.close()


# what a follower gets


def test_it_gets_what_was_sent_and_then_what_comes(workers: Workers) -> None:
    source = Gate("One ", "twö", " three")
    here, elsewhere = workers(pieces=source)
    first = here.ask()
    source.go_on(2)
    sent = first.read_until(rb"tw\u00f6")
    for app in (here, elsewhere):
        follower = app.follow(first.task_id)
        assert follower.read_until(rb"tw\u00f6") == sent
        follower.leave()
    late = elsewhere.follow(first.task_id, after=2)
    assert late.read_until(rb"tw\u00f6") == sent[sent.index(b"id: 3") :]
    source.go_on(2)
    rest = first.rest()
    assert late.rest() == rest
    assert here.follow(first.task_id).rest() == sent + rest


@pytest.mark.parametrize("make_format", FORMATS)
def test_every_format_can_be_followed(make_format: type[StreamFormat]) -> None:
    app = FollowedApp(make_format=make_format, pieces=lambda _: ["One ", "twö"])
    first = app.ask()
    sent = first.rest()
    follower = app.follow(first.task_id)
    assert follower.rest() == sent
    for name in ("Content-Type", "Cache-Control", "Chatstop-Task-Id"):
        assert follower.response.headers[name] == first.response.headers[name]
    for name in make_format.headers:
        assert follower.response.headers[name] == first.response.headers[name]


def test_a_client_that_has_all_is_sent_away() -> None:
    app = FollowedApp()
    first = app.ask()
    sent = first.rest()
    assert (
        app.follow(first.task_id, after=3).rest() == sent[sent.index(b"event: end") :]
    )
    for position in (4, 5, "end"):
        follower = app.follow(first.task_id, after=position)
        assert (follower.status, follower.rest()) == (204, b"")


def test_a_client_that_has_read_more_than_was_written_waits_for_the_rest() -> None:
    events = PausedLog()
    source = Gate("One ", "two ", "three")
    app = FollowedApp({"CHATSTOP_EVENTS": events}, pieces=source)
    first = app.ask()
    assert events.has_begun.wait(10)
    events.go_on.clear()
    source.go_on(2)
    first.read_until(b"id: 3")
    with ThreadPoolExecutor(1) as pool:
        follower = pool.submit(lambda: app.follow(first.task_id, after=3))
        assert events.is_read.wait(10)
        events.go_on.set()
        source.go_on(2)
        rest = first.rest()
        assert follower.result(10).rest() == rest


def test_a_client_that_names_a_position_after_the_end_gets_the_end() -> None:
    gate = Gate("One")
    app = FollowedApp(pieces=gate)
    first = app.ask()
    first.next()
    follower = app.follow(first.task_id, 999)
    gate.go_on(2)
    first.rest()
    assert b"event: end" in follower.rest()


class PausedLog(MemoryEventLog):
    """A log that takes its time."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.go_on = threading.Event()
        self.go_on.set()
        self.has_begun = threading.Event()
        self.is_read = threading.Event()
        self.reads = 0

    def read(self, log_id: str, after: int) -> Page | None:
        page = super().read(log_id, after)
        self.reads += 1
        self.is_read.set()
        return page

    def append(self, logs: Any) -> set[str]:
        assert self.go_on.wait(30)
        lost = super().append(logs)
        self.has_begun.set()
        return lost


@pytest.mark.parametrize("is_short", [True, False])
def test_a_client_that_comes_before_the_first_batch_waits_for_it(
    is_short: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_route, "_BEGINNING", 60.0)  # on a busy machine too
    events = PausedLog()
    events.go_on.clear()
    app = FollowedApp({"CHATSTOP_EVENTS": events})
    first = app.ask()
    with ThreadPoolExecutor(1) as pool:
        follower = pool.submit(lambda: app.follow(first.task_id))
        sent = first.rest() if is_short else first.next()
        # A task that runs is waited for longer than one that has ended already.
        wait_until(lambda: events.reads >= (3 if is_short else 8))
        events.go_on.set()
        if not is_short:
            sent += first.rest()
        assert follower.result(30).rest() == sent


def test_a_client_that_comes_when_a_short_answer_has_ended_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events_route, "_ENDED", 60.0)  # on a busy machine too
    events, backend = PausedLog(), MemoryBackend()
    record = TaskRecord("some-id", Owner("demo", "service-api", "alice"), "elsewhere")
    backend.announce(record)
    backend.end(record, EndReason.FINISHED)
    app = FollowedApp({"CHATSTOP_EVENTS": events, "CHATSTOP_BACKEND": backend})
    with ThreadPoolExecutor(1) as pool:
        follower = pool.submit(lambda: app.follow("some-id"))
        wait_until(lambda: events.reads >= 2)
        head = Head("text/event-stream", {}, 10.0, b"", b"", b"")
        end = Record(END, pack(1, [b"short"]))
        log_id = log_id_of("some-id", record.owner)
        events.append({log_id: [Record(HEAD, head.packed()), end]})
        assert follower.result(10).rest() == b"short"


def test_an_answer_that_nobody_knows_is_looked_for_once() -> None:
    events = PausedLog()
    app = FollowedApp({"CHATSTOP_EVENTS": events})
    first = app.ask()
    first.rest()
    for task_id, user in (("unknown", "alice"), (first.task_id, "bob")):
        events.reads = 0
        assert app.follow(task_id, user=user).status == 404
        assert events.reads == 1


def test_pings_of_the_first_client_are_not_repeated_and_a_follower_has_its_own() -> (
    None
):
    source = Gate("One ")
    app = FollowedApp(pieces=source, heartbeat=0.05)
    first = app.ask()
    first.read_until(b": ping")
    follower = app.follow(first.task_id)
    begin = follower.next()
    assert b"event: begin" in begin and b"ping" not in begin
    follower.read_until(b": ping\n\n: ping\n\n")
    source.go_on(2)
    sent = first.rest().replace(b": ping\n\n", b"")
    assert follower.rest().replace(b": ping\n\n", b"") == sent
    assert app.follow(first.task_id).rest() == begin + sent


# the one end


def test_a_stop_from_another_worker_ends_the_answer_for_all(workers: Workers) -> None:
    source = Gate("One ", "two")
    here, elsewhere = workers(pieces=source)
    first = here.ask()
    source.go_on()
    sent = first.read_until(b"One")
    followers = [app.follow(first.task_id) for app in (here, elsewhere, elsewhere)]
    for follower in followers:
        assert follower.read_until(b"One") == sent
    assert elsewhere.stop(first.task_id).status_code == 200
    rest = first.rest()
    assert b"stopped" in rest
    assert [follower.rest() for follower in followers] == [rest] * 3


def test_an_answer_that_goes_on_without_its_client_is_followed_to_its_end() -> None:
    source = Gate("One ", "two")
    app = FollowedApp(pieces=source, on_disconnect="continue")
    first = app.ask()
    source.go_on()
    sent = first.read_until(b"One")
    first.leave()
    follower = app.follow(first.task_id)
    source.go_on(2)
    everything = follower.rest()
    assert everything.startswith(sent)
    assert everything.endswith(b'data: {"end_reason":"finished"}\n\n')


@pytest.mark.parametrize("reads", [True, False])
def test_a_client_that_leaves_and_ends_the_answer_ends_it_for_followers(
    reads: bool,
) -> None:
    app = FollowedApp(pieces=Gate("One "))
    first = app.ask()
    if reads:
        first.next()
    follower = app.follow(first.task_id)
    begin = follower.next()
    first.leave()
    assert follower.rest().endswith(b'data: {"end_reason":"disconnected"}\n\n')
    assert b"event: begin" in begin


def test_a_client_that_has_stalled_keeps_no_follower_from_the_end() -> None:
    app = FollowedApp(pieces=Gate("One "))
    first = app.ask()
    first.next()  # and reads nothing more
    follower = app.follow(first.task_id)
    app.stop(first.task_id)
    everything = follower.rest()
    assert everything.endswith(b'data: {"end_reason":"stopped"}\n\n')
    assert everything.endswith(first.rest())


def test_an_answer_whose_response_nobody_holds_ends_as_failed() -> None:
    app = FollowedApp(pieces=Gate("One "))
    task_id = app.ask().task_id
    follower = app.follow(task_id)
    app.tasks.clear()
    assert b'id: end\ndata: {"end_reason":"failed","saved":false' in follower.rest()


def test_an_answer_that_was_stopped_before_its_stream_is_followed_too() -> None:
    app = FollowedApp()

    def pieces(task: GenerationTask) -> list[str]:
        task.stop()
        task.raise_if_stopped()
        return []

    app.pieces = pieces
    first = app.ask()
    sent = first.rest()
    assert b"message_end" in sent
    assert app.follow(first.task_id).rest() == sent


def test_a_source_that_fails_ends_the_answer_for_followers() -> None:
    def pieces(task: GenerationTask) -> Iterator[str]:
        yield "One "
        raise ValueError("a secret")

    app = FollowedApp(pieces=pieces)
    first = app.ask()
    sent = first.rest()
    assert b'"failed"' in sent and b"secret" not in sent
    assert app.follow(first.task_id).rest() == sent


# cut at any place


def test_followers_that_are_cut_at_any_place_get_every_byte(workers: Workers) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    here, elsewhere = workers()
    for number in range(ANSWERS):
        make_format = FORMATS[number % len(FORMATS)]
        here.make_format = make_format
        here.pieces = partial(talk, random.Random(chance.random()))
        first = here.ask()
        with ThreadPoolExecutor(4) as pool:
            sent = pool.submit(first.rest)
            read = [
                pool.submit(
                    follow_with_cuts, app, first.task_id, random.Random(chance.random())
                )
                for app in (here, elsewhere, elsewhere)
            ]
            assert [x.result(60) for x in read] == [sent.result(60)] * 3, seed


def talk(chance: random.Random, task: GenerationTask) -> Iterator[str]:
    """Say something at a model's pace, in characters of one to four bytes."""
    for _ in range(chance.randrange(80)):
        length = chance.choice([1, 5, 5, 5, 300])
        yield "".join(chance.choices('a \n"ü€漢🙂', k=length))
        if chance.random() < 0.5:
            threading.Event().wait(chance.random() * 0.005)


def follow_with_cuts(app: FollowedApp, task_id: str, chance: random.Random) -> bytes:
    """Read an answer over connections that are cut, and return all that counts."""
    read = b""
    position: str | None = None
    while True:
        # Without an id in what was read, a client begins again and skips what it has.
        skip = len(read) if position is None else 0
        follower = app.follow(task_id, position)
        if follower.status == 204:
            return read
        assert follower.status == 200, follower.rest()
        part, is_over = read_some(
            follower, chance.choice([1, 10, 100, 1000, 10**6]) + skip
        )
        read += part[skip:]
        if is_over:
            return read
        ids = re.findall(rb"(?s)id: (\d+)\n[^\n]*\n\n", read)
        if ids:
            # A browser drops the part of an event that it has got.
            position = ids[-1].decode()
            read = read[: read.index(b"\n\n", read.rindex(b"id: " + ids[-1])) + 2]


def read_some(follower: Reading, size: int) -> tuple[bytes, bool]:
    read = b""
    try:
        while len(read) < size:
            read += follower.next()
    except StopIteration:
        return read, True
    follower.leave()
    return read[:size], False


# many followers


def test_followers_of_one_process_share_what_they_read() -> None:
    events = PausedLog()
    source = Gate(*map(str, range(10)))
    backend = MemoryBackend()
    config = {"CHATSTOP_BACKEND": backend, "CHATSTOP_EVENTS": events}
    here, elsewhere = (FollowedApp(config, pieces=source) for _ in range(2))
    first = here.ask()
    followers = [app.follow(first.task_id) for app in [here, elsewhere] * 15]
    probe = here.follow(first.task_id)
    sent = b""
    with ThreadPoolExecutor(30) as pool:
        rests = [pool.submit(follower.rest) for follower in followers]
        events.reads = 0
        for number in range(10):
            source.go_on()
            sent += first.read_until(b'"%d"' % number)
            probe.read_until(b'"%d"' % number)  # so that each is a batch
        source.go_on()
        sent += first.rest()
        assert {rest.result(30) for rest in rests} == {sent}
    # Each process reads each batch. If each follower did so, they were more than 300.
    assert events.reads < 150

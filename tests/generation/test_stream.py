"""Reading a source in a helper thread: stops, errors, readers that leave."""

import contextvars
import functools
import gc
import threading
import time
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from flask import appcontext_pushed, current_app, g, request

from flask_chatstop import (
    ChunkStream,
    ConfigurationError,
    EndReason,
    GenerationTask,
)
from flask_chatstop.generation.queue import QUEUE_SIZE
from flask_chatstop.testing import wait_until
from flask_chatstop.upstream import given
from tests.support.apps import new_task
from tests.support.chat import Chat, Source
from tests.support.provider import Provider, provider
from tests.support.threads import are_over, threads_begun


@pytest.fixture
def task() -> GenerationTask:
    return new_task(Chat())


@pytest.fixture
def untracked() -> GenerationTask:
    """A task whose calls are known by ``upstream`` only."""
    return new_task(Chat(config={"CHATSTOP_TRACK_CALLS": False}))


def test_the_chunks_of_a_source_come_in_order_and_unchanged(
    task: GenerationTask,
) -> None:
    chunks = [object() for _ in range(1_000)]
    assert list(task.stream(chunks)) == chunks
    assert task.end_reason is EndReason.FINISHED


def test_a_stop_ends_the_stream_of_a_silent_source(task: GenerationTask) -> None:
    source = Source("one")
    stream = task.stream(source())
    assert next(stream) == "one"
    threading.Thread(target=lambda: source.is_silent.wait() and task.stop()).start()
    assert list(stream) == []
    assert task.end_reason is EndReason.STOPPED
    assert not source.go_on.is_set()
    source.go_on.set()


def test_a_stop_drops_what_the_reader_has_not_taken(task: GenerationTask) -> None:
    source = Source(*range(10))
    stream = task.stream(source())
    assert next(stream) == 0
    assert source.is_silent.wait(5)
    task.stop()
    assert list(stream) == []
    source.go_on.set()


def test_a_stop_before_the_first_chunk_leaves_the_source_unread(
    task: GenerationTask,
) -> None:
    task.stop()
    source = iter("abc")
    assert list(task.stream(source)) == []
    assert list(source) == ["a", "b", "c"]
    assert task.end_reason is EndReason.STOPPED


def test_a_stop_hangs_up_on_the_upstream_and_its_error_is_no_failure(
    task: GenerationTask, silent: Provider
) -> None:
    with (
        httpx.Client(timeout=None) as client,
        client.stream("POST", f"{silent.url}/chat/completions") as reply,
    ):
        stream = task.stream(reply.iter_raw(), upstream=reply)
        next(stream)
        call = silent.calls[0]
        assert call.silent.wait(5)
        task.stop()
        assert call.closed.wait(10)
        assert list(stream) == []
    assert task.end_reason is EndReason.STOPPED


def test_a_source_that_is_a_response_is_its_own_upstream(
    task: GenerationTask, silent: Provider
) -> None:
    import openai

    with openai.OpenAI(base_url=silent.url, api_key="x") as client:
        reply = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "x"}], stream=True
        )
        stream = task.stream(reply)
        next(stream)
        assert silent.calls[0].silent.wait(5)
        task.stop()
        assert silent.calls[0].closed.wait(10)
        assert list(stream) == []


def test_an_upstream_may_be_looked_up_when_it_is_hung_up_on(
    task: GenerationTask, silent: Provider
) -> None:
    replies: list[httpx.Response] = []

    def source() -> Iterator[bytes]:
        with (
            httpx.Client(timeout=None) as client,
            client.stream("POST", f"{silent.url}/chat/completions") as reply,
        ):
            replies.append(reply)
            yield from reply.iter_raw()

    stream = task.stream(source(), upstream=lambda: replies[-1])
    next(stream)
    assert silent.calls[0].silent.wait(5)
    task.stop()
    assert silent.calls[0].closed.wait(10)
    assert list(stream) == []


@pytest.mark.parametrize("then", ["silence", "hold"])
def test_an_upstream_that_answers_after_the_stop_is_hung_up_on_all_the_same(
    untracked: GenerationTask, silent: Provider, then: str
) -> None:
    silent.then = then
    asked, answering = threading.Event(), threading.Event()
    replies: list[httpx.Response] = []

    def source() -> Iterator[bytes]:
        asked.set()
        assert answering.wait(5)
        client = httpx.Client(timeout=None)
        request = client.build_request("POST", f"{silent.url}/chat/completions")
        replies.append(client.send(request, stream=True))
        yield from replies[0].iter_raw()

    stream = untracked.stream(source(), upstream=lambda: replies[0])
    threading.Thread(target=lambda: asked.wait() and untracked.stop()).start()
    assert list(stream) == []
    answering.set()
    wait_until(lambda: bool(silent.calls))
    assert silent.calls[0].closed.wait(5)


@pytest.mark.parametrize("is_stopped", [True, False])
def test_an_answer_that_is_asked_for_after_the_end_is_hung_up_on_too(
    untracked: GenerationTask, silent: Provider, is_stopped: bool
) -> None:
    replies: list[httpx.Response] = []
    tool = Source("result")
    limits = httpx.Limits(max_keepalive_connections=0)  # it answers one request each

    def agent() -> Iterator[bytes]:
        with httpx.Client(timeout=None, limits=limits) as client:
            for then in ("end", "hold"):
                silent.then = then
                url = f"{silent.url}/chat/completions"
                with client.stream("POST", url) as reply:
                    replies.append(reply)
                    yield from reply.iter_raw()
                for _ in tool():
                    pass

    stream = untracked.stream(agent(), upstream=lambda: replies[-1])
    next(stream)
    reading = threading.Thread(target=lambda: list(stream))
    reading.start()
    assert tool.is_silent.wait(5)
    untracked.stop() if is_stopped else untracked.end("disconnected")
    reading.join(5)
    tool.go_on.set()
    wait_until(lambda: len(silent.calls) == 2)
    assert silent.calls[1].closed.wait(5)


def test_what_fails_when_an_upstream_is_looked_up_is_logged_once(
    task: GenerationTask, caplog: pytest.LogCaptureFixture
) -> None:
    source, looks = Source("One "), list[int]()

    def upstream() -> object:
        looks.append(len(looks))
        raise IndexError("nothing yet")

    stream = task.stream(source(), upstream=upstream)
    next(stream)
    task.stop()
    wait_until(lambda: len(looks) > 2)
    source.go_on.set()
    assert list(stream) == []
    assert caplog.text.count("Could not hang up on the upstream.") == 1


def test_the_upstream_of_a_source_that_never_ends_is_not_looked_up_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(given, "_GIVEN_UP", 0.2)
    monkeypatch.setattr(given, "_LATER", 0.05)
    looks = list[int]()
    upstream = given.GivenUpstream(lambda: looks.append(len(looks)))
    upstream.hang_up_until(lambda: False)
    assert looks
    assert "its upstream is not looked up any more" in caplog.text


def test_a_source_that_waited_for_a_slow_reader_is_asked_for_nothing_more(
    task: GenerationTask,
) -> None:
    given: list[int] = []
    first_is_taken, closed = threading.Event(), threading.Event()

    def source() -> Iterator[int]:
        for number in range(2 * QUEUE_SIZE):
            given.append(number)
            yield number
            assert first_is_taken.wait(5)

    stream = task.stream(finally_set(source(), closed))
    next(stream)
    first_is_taken.set()
    count = 1 + QUEUE_SIZE  # with the last of which the queue is full
    wait_until(lambda: len(given) == count)
    task.stop()
    assert closed.wait(5)
    assert len(given) == count


def finally_set(source: Iterator[int], closed: threading.Event) -> Iterator[int]:
    try:
        yield from source
    finally:
        closed.set()


def test_an_app_context_that_cannot_be_had_is_a_failure_and_no_silence() -> None:
    chat = Chat()
    task = new_task(chat)

    def refuse(sender: object) -> None:
        if threading.current_thread().name == "chatstop_read":
            raise LookupError("no database today")

    with (
        appcontext_pushed.connected_to(refuse, chat.app),
        pytest.raises(LookupError, match="no database today"),
    ):
        next(task.stream(["abc"], heartbeat=5))
    assert task.end_reason is EndReason.FAILED


def test_an_error_of_the_source_is_raised_to_the_reader(task: GenerationTask) -> None:
    def source() -> Iterator[str]:
        yield "one"
        raise LookupError("no more")

    stream = task.stream(source())
    assert next(stream) == "one"
    with pytest.raises(LookupError, match="no more"):
        next(stream)
    assert task.end_reason is EndReason.FAILED
    assert list(stream) == []


def test_an_error_that_is_not_true_is_a_failure_all_the_same(
    task: GenerationTask,
) -> None:
    class Nothing(Exception):
        def __len__(self) -> int:
            return 0

    def source() -> Iterator[str]:
        raise Nothing
        yield

    with pytest.raises(Nothing):
        list(task.stream(source()))
    assert task.end_reason is EndReason.FAILED


def test_an_upstream_that_takes_for_ever_to_be_looked_up_delays_nobody(
    task: GenerationTask,
) -> None:
    source, ended = Source("One "), threading.Event()
    task.on_end(lambda end: ended.set())
    stream = task.stream(source(), upstream=threading.Event().wait)
    next(stream)
    leaving = threading.Thread(target=stream.close, daemon=True)
    leaving.start()
    leaving.join(5)
    assert not leaving.is_alive()
    assert ended.is_set()
    source.go_on.set()


def test_an_upstream_that_cannot_be_hung_up_on_is_told_in_the_log(
    task: GenerationTask, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source("One ")
    stream = task.stream(source(), upstream=iter("abc"))
    next(stream)
    stream.close()
    assert "Cannot hang up on a str_ascii_iterator; give" in caplog.text
    source.go_on.set()


def test_a_provider_that_cuts_the_connection_is_a_failure(task: GenerationTask) -> None:
    with (
        provider(then="crash") as server,
        httpx.Client() as client,
        client.stream("POST", f"{server.url}/chat/completions") as reply,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        list(task.stream(reply.iter_raw(), upstream=reply))
    assert task.end_reason is EndReason.FAILED


def test_a_reader_that_leaves_has_the_source_closed_in_its_own_thread(
    task: GenerationTask,
) -> None:
    source = Source("one")
    stream = task.stream(source())
    next(stream)
    assert source.is_silent.wait(5)
    stream.close()
    assert task.end_reason is EndReason.DISCONNECTED
    source.go_on.set()
    assert source.closed.wait(5)
    assert source.closed_in == "chatstop_read"


def test_a_reader_that_leaves_hangs_up_on_the_upstream(
    task: GenerationTask, silent: Provider
) -> None:
    with (
        httpx.Client(timeout=None) as client,
        client.stream("POST", f"{silent.url}/chat/completions") as reply,
    ):
        stream = task.stream(reply.iter_raw(), upstream=reply)
        next(stream)
        assert silent.calls[0].silent.wait(5)
        stream.close()
        assert silent.calls[0].closed.wait(10)


def test_a_stop_waits_until_the_reader_has_sent_the_last_bytes_and_hung_up(
    task: GenerationTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_chatstop.generation.stopping._FOR_THE_READER", 60.0)
    source, shut_in = Source("One "), list[threading.Thread]()
    line = SimpleNamespace(shutdown=lambda: shut_in.append(threading.current_thread()))
    stream = task.stream(source(), upstream=line)
    next(stream)
    stop = threading.Thread(target=task.stop)
    stop.start()
    assert list(stream) == [] and shut_in == []
    assert stop.is_alive()
    stream.close()
    assert shut_in == [threading.current_thread()]
    stop.join(5)
    assert not stop.is_alive()
    source.go_on.set()


def test_a_stop_of_a_stream_that_is_closed_waits_for_nobody(
    task: GenerationTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_chatstop.generation.stopping._FOR_THE_READER", 60.0)
    source = Source("One ")
    stream = task.stream(source())
    next(stream)
    task._source.close()  # type: ignore[union-attr]
    began = time.monotonic()
    task.stop()
    assert time.monotonic() - began < 10
    source.go_on.set()


def test_a_stream_that_is_closed_before_it_began_hangs_up_too(
    task: GenerationTask, silent: Provider
) -> None:
    with (
        httpx.Client(timeout=None) as client,
        client.stream("POST", f"{silent.url}/chat/completions") as reply,
    ):
        assert silent.calls[0].silent.wait(5)
        task.stream(reply.iter_raw(), upstream=reply).close()
        assert silent.calls[0].closed.wait(10)
    assert task.end_reason is EndReason.DISCONNECTED


def test_a_slow_reader_slows_the_source(task: GenerationTask) -> None:
    read: list[int] = []

    def source() -> Iterator[int]:
        for number in range(10 * QUEUE_SIZE):
            read.append(number)
            yield number

    stream = task.stream(source())
    next(stream)
    wait_until(lambda: len(read) >= QUEUE_SIZE)
    threading.Event().wait(0.1)  # time in which it must not read any further
    assert len(read) <= QUEUE_SIZE + 2
    assert list(stream) == list(range(1, 10 * QUEUE_SIZE))


def test_a_source_that_waits_for_a_slow_reader_can_be_stopped(
    task: GenerationTask,
) -> None:
    source = Source(*range(10 * QUEUE_SIZE))
    stream = task.stream(source())
    next(stream)
    task.stop()
    assert source.closed.wait(5)
    assert list(stream) == []


def test_silence_yields_none_every_heartbeat(task: GenerationTask) -> None:
    source = Source("one")
    stream: ChunkStream[str | None] = task.stream(source(), heartbeat=0.01)
    # The heart may beat before its first chunk too.
    assert next(chunk for chunk in stream if chunk is not None) == "one"
    assert [next(stream) for _ in range(2)] == [None, None]
    source.go_on.set()
    assert [chunk for chunk in stream if chunk is not None] == ["last"]


def test_the_source_sees_the_context_variables_of_its_caller(
    task: GenerationTask,
) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("mine")
    stream = task.stream(variable.get() for _ in "x")
    variable.set("another's")
    assert list(stream) == ["mine"]


def test_the_source_sees_the_request_and_the_app() -> None:
    chat = Chat(lambda _: (f"{current_app.name} {request.path}" for _ in "x"))
    assert chat.ask().rest()[0]["answer"] == "chat /v1/chat-messages"


def test_a_reader_is_woken_when_somebody_else_ends_its_task(
    task: GenerationTask,
) -> None:
    source = Source("one")
    stream = task.stream(source())
    assert next(stream) == "one"
    threading.Thread(
        target=lambda: source.is_silent.wait() and task.end("failed")
    ).start()
    assert list(stream) == []
    assert task.end_reason is EndReason.FAILED
    source.go_on.set()


@pytest.mark.parametrize("heartbeat", [0, -1, float("nan"), "1"])
def test_a_heartbeat_that_never_beats_is_refused(
    task: GenerationTask, heartbeat: Any
) -> None:
    with pytest.raises(ConfigurationError, match="heartbeat"):
        task.stream(["x"], heartbeat=heartbeat)


def test_a_task_has_one_stream(task: GenerationTask) -> None:
    task.stream(["a"])
    with pytest.raises(RuntimeError, match="start another task"):
        task.stream(["b"])


def test_a_stream_that_nobody_holds_ends_as_failed() -> None:
    chat = Chat()
    task = new_task(chat)
    ends: list[str] = []
    task.on_end(lambda end: ends.append(end.reason))
    source = Source("one")
    stream = task.stream(source())
    next(stream)
    gone = weakref.ref(stream)
    del task, stream
    gc.collect()
    assert gone() is None
    wait_until(lambda: ends == ["failed"])
    source.go_on.set()
    assert source.closed.wait(5)


def test_no_thread_is_left_when_a_stream_is_over(task: GenerationTask) -> None:
    with threads_begun() as begun:
        list(task.stream(iter("abc")))
    assert begun
    wait_until(lambda: are_over(begun))


def test_the_source_has_an_app_context_that_is_torn_down_when_it_ends() -> None:
    torn_down: list[str] = []

    def pieces(task: GenerationTask) -> Iterator[str]:
        g.mine = "source"
        yield "text"

    chat = Chat(pieces)
    chat.app.teardown_appcontext(
        lambda error: torn_down.append(g.get("mine", "request"))
    )
    chat.ask().rest()
    wait_until(lambda: torn_down.count("source") == 1)


def test_a_stopped_task_ends_though_its_reader_has_stalled() -> None:
    task = new_task(Chat())
    ends: list[EndReason] = []
    task.on_end(lambda end: ends.append(end.reason))
    stream = task.stream(Source("one", "two")())
    next(stream)
    task.stop()
    wait_until(lambda: ends == [EndReason.STOPPED])
    assert list(stream) == []


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_would_end_a_thread_is_a_failure_of_the_source(
    error: type[BaseException],
) -> None:
    def pieces(task: GenerationTask) -> Iterator[str]:
        yield "One "
        raise error

    chat = Chat(pieces)
    assert chat.ask().rest()[-1]["event"] == "error"
    assert [end.reason for end in chat.ends] == ["failed"]


def test_a_source_whose_thread_is_refused_is_closed_and_has_failed() -> None:
    class Upstream:
        is_closed = False

        def close(self) -> None:
            self.is_closed = True

    upstream = Upstream()
    chat = Chat(upstream=upstream)
    answer = chat.ask()
    threading.stack_size(2**46)  # more than there is: no thread can begin
    try:
        assert answer.rest()[-1]["event"] == "error"
    finally:
        threading.stack_size(0)
    assert [end.reason for end in chat.ends] == ["failed"]
    assert upstream.is_closed


def words() -> Iterator[str]:
    yield "One "


def test_a_source_that_was_not_called_is_named_as_it_has_to_be(
    task: GenerationTask,
) -> None:
    with pytest.raises(TypeError, match=r"function is neither; call it: words\(\)\."):
        task.stream(words)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"partial is neither; call it\."):
        task.stream(functools.partial(words))  # type: ignore[call-overload]

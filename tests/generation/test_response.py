"""The event stream of an answer, and what is told of its end."""

import gc
import json
import signal
import threading
import time
from collections import UserDict
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from flask import Response, current_app
from flask.json.provider import DefaultJSONProvider

from flask_chatstop import (
    ConfigurationError,
    EndReason,
    GenerationEnd,
    GenerationTask,
    chat_response,
    task_ended,
)
from flask_chatstop.testing import wait_until
from tests.support.apps import new_task
from tests.support.chat import AUTH, Answer, Chat, Source

NO_USAGE = {
    "prompt_tokens": 0,
    "prompt_unit_price": "0",
    "prompt_price_unit": "0",
    "prompt_price": "0",
    "completion_tokens": 0,
    "completion_unit_price": "0",
    "completion_price_unit": "0",
    "completion_price": "0",
    "total_tokens": 0,
    "total_price": "0",
    "currency": "USD",
}


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(event.get("answer", "") for event in events)


def test_an_answer_is_the_events_of_the_contract() -> None:
    chat = Chat(message_id="m-1", conversation_id="c-1", metadata={"usage": {"n": 3}})
    before = int(time.time())
    answer = chat.ask()
    events = [answer.first, *answer.rest()]
    ids = {
        "task_id": chat.tasks[0].id,
        "id": "m-1",
        "message_id": "m-1",
        "conversation_id": "c-1",
        "created_at": answer.first["created_at"],
    }
    assert before <= ids["created_at"] <= time.time()
    latency = events[-1]["metadata"]["usage"]["latency"]
    assert events == [
        {"event": "message", **ids, "answer": ""},
        {"event": "message", **ids, "answer": "One "},
        {"event": "message", **ids, "answer": "two"},
        {
            "event": "message_end",
            **ids,
            "metadata": {
                "retriever_resources": [],
                "usage": {**NO_USAGE, "latency": latency, "n": 3},
                "end_reason": "finished",
            },
        },
    ]
    assert 0 <= latency < 60


def test_its_headers_are_those_of_the_contract() -> None:
    headers = Chat().ask().response.headers
    assert headers["Content-Type"].startswith("text/event-stream")
    assert headers["Cache-Control"] == "no-cache"
    assert headers["X-Accel-Buffering"] == "no"
    assert "Connection" not in headers
    assert "Transfer-Encoding" not in headers


def test_its_frames_are_compact_json_in_ascii() -> None:
    chat = Chat(lambda _: ['line\nbreak\r\u2028 "é" 😀'])
    raw = chat.client.post(
        "/v1/chat-messages", json={"user": "alice"}, headers=AUTH
    ).data
    assert raw.isascii()
    assert raw.count(b"\n") == 2 * raw.count(b"data: ")
    assert b'": ' not in raw and b'", ' not in raw
    assert b"[DONE]" not in raw and b"\nid:" not in raw


def test_half_a_surrogate_pair_in_a_piece_reaches_the_client_whole() -> None:
    chat = Chat(lambda _: ["\ud83d", "\ude00", " and half \ud83d"])
    events = chat.ask().rest()
    sent = json.loads(json.dumps(text_of(events)))
    assert sent == "😀 and half \ud83d"
    assert chat.ends[0].text == "😀 and half \ufffd"


def test_the_first_event_names_the_task_before_the_first_token() -> None:
    source = Source()
    chat = Chat(source)
    answer = chat.ask()
    assert answer.first["answer"] == ""
    chat.stop(answer.first["task_id"])
    assert [event["event"] for event in answer.rest()] == ["message_end"]
    source.go_on.set()


def test_ids_are_new_unless_given() -> None:
    chat = Chat()
    one, two = chat.ask().first, chat.ask().first
    for name in ("task_id", "message_id", "conversation_id"):
        assert len(one[name]) == 36
        assert one[name] != two[name]


def test_empty_pieces_are_passed_over() -> None:
    answer = Chat(lambda _: ["", None, "text", None, ""]).ask()
    assert [event.get("answer") for event in answer.rest()] == ["text", None]


def test_a_long_piece_is_sent_as_several_events() -> None:
    piece = "0123456789" * 20_000
    chat = Chat(lambda _: [piece, "end"])
    *messages, end = chat.ask().rest()
    assert [len(event["answer"]) for event in messages] == [65_536] * 3 + [3_392, 3]
    assert text_of(messages) == chat.ends[0].text == piece + "end"
    assert end["event"] == "message_end"


def test_a_stop_ends_a_long_piece_between_its_events() -> None:
    chat = Chat(lambda _: ["0123456789" * 20_000])
    answer = chat.ask()
    sent = answer.next()["answer"]
    chat.stop(answer.task_id)
    [end] = answer.rest()
    assert end["metadata"]["end_reason"] == "stopped"
    assert chat.ends[0].text == sent


def test_a_stopped_answer_ends_as_such_and_keeps_its_text() -> None:
    source = Source("One ", "two ")
    chat = Chat(source)
    answer = chat.ask()
    pieces = [answer.next()["answer"], answer.next()["answer"]]
    assert source.is_silent.wait(5)
    chat.stop(answer.task_id)
    [end] = answer.rest()
    assert end["event"] == "message_end"
    assert end["metadata"]["end_reason"] == "stopped"
    assert pieces == ["One ", "two "]
    [told] = chat.ends
    assert (told.reason, told.text, told.error) == ("stopped", "One two ", None)
    assert (told.task_id, told.user) == (answer.task_id, "alice")
    assert told.message_id == answer.first["message_id"]
    assert told.conversation_id == answer.first["conversation_id"]
    assert told.duration > 0
    source.go_on.set()


def test_the_answer_is_saved_before_the_client_is_told_of_the_end() -> None:
    saved: list[str] = []
    chat = Chat()

    @chat.app.post("/save")
    @chat.chatstop.login_required
    def save() -> Response:
        def on_end(end: GenerationEnd) -> None:
            saved.append(f"{current_app.name}: {end.text}")

        return chat_response(chat.chatstop.start(user="a"), ["text"], on_end=on_end)

    for frame in chat.client.post("/save", headers=AUTH).response:
        if b"message_end" in frame:
            assert saved == ["chat: text"]
    assert saved


def test_a_failing_source_is_an_error_event_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def pieces(task: GenerationTask) -> Iterator[str]:
        yield "One "
        raise LookupError("secret detail")

    chat = Chat(pieces, message_id="m-1", conversation_id="c-1")
    answer = chat.ask()
    piece, error = answer.rest()
    assert piece["answer"] == "One "
    assert error == {
        "event": "error",
        "message_id": "m-1",
        "conversation_id": "c-1",
        "created_at": answer.first["created_at"],
        "status": 400,
        "code": "completion_request_error",
        "message": "The answer could not be completed.",
    }
    assert "secret detail" in caplog.text
    [end] = chat.ends
    assert (end.reason, end.text) == ("failed", "One ")
    assert isinstance(end.error, LookupError)


def test_a_piece_that_is_no_text_is_a_failure_that_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    chat = Chat(lambda _: ["One ", 7])
    assert chat.ask().rest()[-1]["event"] == "error"
    assert "must be a str, or a mapping" in caplog.text
    assert chat.ends[0].text == "One "


def test_silence_is_filled_with_pings() -> None:
    source = Source("One ")
    answer = Chat(source, heartbeat=0.01).ask()
    while "answer" not in (event := answer.next()):
        assert event == {"event": "ping"}  # the source may take a while to begin
    assert event["answer"] == "One "
    assert answer.next() == {"event": "ping"}
    assert answer.next() == {"event": "ping"}
    source.go_on.set()
    assert text_of(answer.rest()) == "last"


def test_a_source_of_empty_pieces_is_filled_with_pings_too() -> None:
    answer = Chat(lambda _: iter(lambda: "", None), heartbeat=0.01).ask()
    assert answer.next() == {"event": "ping"}
    assert answer.next() == {"event": "ping"}
    answer.leave()


def test_a_client_that_leaves_ends_the_generation() -> None:
    source = Source("One ", "two ")
    chat = Chat(source)
    answer = chat.ask()
    answer.next()
    assert source.is_silent.wait(5)
    answer.leave()
    [end] = chat.ends
    assert (end.reason, end.text) == ("disconnected", "One ")
    source.go_on.set()
    assert source.closed.wait(5)


def test_a_client_that_leaves_can_leave_the_generation_running() -> None:
    source = Source("One ", "two ")
    chat = Chat(source, on_disconnect="continue")
    answer = chat.ask()
    answer.next()
    answer.leave()
    answer.leave()  # as where a middleware closes what its server closes too
    assert chat.ends == []
    source.go_on.set()
    wait_until(lambda: bool(chat.ends))
    [end] = chat.ends
    assert (end.reason, end.text) == ("finished", "One two last")


class Interruption(BaseException):
    """What is raised where a server waits, like a ``gevent.Timeout``."""


@contextmanager
def interrupted_soon() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise Interruption

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(Interruption):
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_what_interrupts_a_server_does_not_end_a_generation_that_continues() -> None:
    source = Source("One ", "two ")
    chat = Chat(source, on_disconnect="continue")
    answer = chat.ask()
    assert [answer.next()["answer"] for _ in range(2)] == ["One ", "two "]
    with interrupted_soon():
        answer.next()
    answer.leave()
    source.go_on.set()
    wait_until(lambda: bool(chat.ends))
    [end] = chat.ends
    assert (end.reason, end.text) == ("finished", "One two last")


def test_a_generation_without_a_client_can_be_stopped() -> None:
    source = Source("One ", "two ")
    chat = Chat(source, on_disconnect="continue")
    answer = chat.ask()
    answer.leave()
    assert source.is_silent.wait(5)
    assert chat.stop(answer.task_id).headers["Chatstop-Outcome"] == "stopping"
    wait_until(lambda: [end.reason for end in chat.ends] == ["stopped"])
    source.go_on.set()


@pytest.mark.parametrize("on_disconnect", ["stop", "continue"])
def test_a_client_that_leaves_after_the_end_changes_nothing(on_disconnect: str) -> None:
    chat = Chat(on_disconnect=on_disconnect)
    answer = chat.ask()
    answer.rest()
    answer.leave()
    assert [end.reason for end in chat.ends] == ["finished"]


def test_a_client_that_is_slow_is_not_told_of_the_end_before_the_answer_is_saved() -> (
    None
):
    saving, may_save = threading.Event(), threading.Event()
    order: list[str] = []

    def save(end: GenerationEnd) -> None:
        saving.set()
        assert may_save.wait(10)
        order.append("saved")

    def read(answer: Answer) -> None:
        answer.rest()
        order.append("told")

    chat = Chat(Source("One "))
    answer = chat.ask()
    chat.tasks[0].on_end(save)
    answer.next()
    chat.stop(answer.task_id)
    assert saving.wait(10)  # for the client takes nothing
    reading = threading.Thread(target=read, args=[answer])
    reading.start()
    reading.join(0.3)
    may_save.set()
    reading.join()
    assert order == ["saved", "told"]


def test_a_client_that_leaves_is_noticed_behind_an_iterator_without_a_close() -> None:
    source = Source("One ")
    chat = Chat(source)

    @chat.app.after_request
    def wrap(response: Response) -> Response:
        response.response = map(bytes, response.response)  # type: ignore[arg-type]
        return response

    answer = chat.ask()
    answer.next()
    answer.leave()
    assert [end.reason for end in chat.ends] == ["disconnected"]
    source.go_on.set()


def test_a_second_response_of_a_task_is_refused_and_saves_nothing() -> None:
    chat = Chat()
    ends: list[GenerationEnd] = []
    answer = chat.ask()
    with pytest.raises(RuntimeError, match="has a stream"):
        chat_response(chat.tasks[0], ["again"], on_end=ends.append)
    answer.rest()
    assert [end.text for end in chat.ends] == ["One two"]
    assert ends == []


def test_what_cannot_be_called_at_the_end_is_refused_at_the_start() -> None:
    chat = Chat()
    chat.ask()
    with pytest.raises(TypeError, match="on_end is a str; give it a function"):
        chat_response(chat.tasks[0], ["One"], on_end="save")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="on_stop is a str; give it a function"):
        chat.tasks[0].on_stop("save")  # type: ignore[arg-type]


async def save_async(end: object = None) -> None:
    raise AssertionError("Nobody awaits it.")


async def yield_async(end: object = None) -> AsyncIterator[object]:
    yield end


def save_lazily(end: object = None) -> Iterator[object]:
    yield end


class SavesAsync:
    async def __call__(self, end: object = None) -> None:
        raise AssertionError("Nobody awaits it.")


@pytest.mark.parametrize(
    "callback",
    [save_async, partial(save_async), SavesAsync(), save_lazily, yield_async],
)
def test_a_callback_whose_call_runs_nothing_is_refused_at_the_start(
    callback: Any,
) -> None:
    chat = Chat()
    chat.ask()
    task = chat.tasks[0]
    with pytest.raises(TypeError, match=r"on_end .* may call asyncio.run\(\)"):
        chat_response(task, ["One"], on_end=callback)
    for register in (task.on_stop, task.on_end, task.on_source_end):
        with pytest.raises(TypeError, match=f"{register.__name__} is only called"):
            register(callback)


def test_a_coroutine_that_on_end_returns_was_not_run_so_nothing_is_saved(
    caplog: pytest.LogCaptureFixture,
) -> None:
    chat = Chat()
    answer = chat.ask()
    chat.tasks[0].on_end(lambda end: save_async(end))
    assert answer.rest()[-1]["metadata"]["saved"] is False
    assert "save_async is async" in caplog.text


def test_a_coroutine_that_another_callback_returns_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    task = new_task(Chat())
    task.on_source_end(lambda: save_async())
    task.stop()
    task.on_stop(lambda: save_async())
    task.stream([]).close()
    assert "on_source_end is only called" in caplog.text
    assert "on_stop is only called" in caplog.text


@pytest.mark.parametrize("task", [None, "an-id", ["One"]])
def test_what_is_not_a_task_gets_no_response(task: Any) -> None:
    with pytest.raises(TypeError, match=r"give it what ChatStop.start\(\) returned"):
        chat_response(task, ["One"])


def test_a_response_without_a_heartbeat_is_refused() -> None:
    chat = Chat(heartbeat=None)
    chat.app.testing = True
    with pytest.raises(ConfigurationError, match="heartbeat is None"):
        chat.ask()


@pytest.mark.parametrize("on_disconnect", ["stop", "continue"])
def test_a_head_request_ends_what_it_began_and_asks_no_model(
    on_disconnect: Any,
) -> None:
    chat = Chat()
    ends: list[EndReason] = []

    @chat.app.get("/answer")
    @chat.chatstop.login_required
    def answer() -> Response:
        task = chat.chatstop.start(user="alice")
        return chat_response(
            task,
            ["text"],
            on_end=lambda end: ends.append(end.reason),
            on_disconnect=on_disconnect,
        )

    with chat.client.head("/answer", headers=AUTH) as response:
        assert response.status_code == 200
    assert ends == ["disconnected"]


def test_a_response_that_is_dropped_before_it_is_sent_ends_its_task() -> None:
    chat = Chat()
    ends: list[EndReason] = []

    @chat.app.after_request
    def replace(response: Response) -> Response:
        return Response("busy", 503)

    with task_ended.connected_to(
        lambda sender, reason, **_: ends.append(reason), sender=chat.app
    ):
        with chat.app.test_request_context(
            "/v1/chat-messages", method="POST", json={"user": "alice"}, headers=AUTH
        ):
            assert chat.app.full_dispatch_request().status_code == 503
        chat.tasks.clear()
        gc.collect()
        wait_until(lambda: ends == ["failed"])
    assert [end.reason for end in chat.ends] == ["failed"]


def test_an_answer_that_nobody_reads_ends_without_a_garbage_collection() -> None:
    chat = Chat()
    ended = threading.Event()

    @chat.chatstop.login_required
    def answer(ended: threading.Event) -> None:
        task = chat.chatstop.start(user="alice")
        chat_response(task, ["One "], on_end=lambda _: ended.set())

    gc.disable()
    try:
        with chat.app.test_request_context(headers=AUTH):
            answer(ended)
        assert ended.wait(5)
    finally:
        gc.enable()


def test_metadata_may_be_filled_in_on_the_way() -> None:
    metadata: dict[str, object] = {}

    def pieces(task: GenerationTask) -> Iterator[str]:
        yield "text"
        metadata["usage"] = {"total_price": Decimal("0.1")}
        metadata["cost_centre"] = 7

    end = Chat(pieces, metadata=metadata).ask().rest()[-1]
    assert end["metadata"]["usage"]["total_price"] == "0.1"
    assert end["metadata"]["cost_centre"] == 7


class IndentingProvider(DefaultJSONProvider):
    """A provider of the app's own, which writes for people."""

    def dumps(self, obj: Any, **options: Any) -> str:
        return super().dumps(obj, **{**options, "indent": 2, "separators": None})


def test_a_json_provider_that_indents_does_not_break_the_events() -> None:
    chat = Chat(metadata={"usage": {"price": Decimal("0.1")}, "a": ["\n"]})
    chat.app.json = IndentingProvider(chat.app)
    raw = chat.client.post(
        "/v1/chat-messages", json={"user": "alice"}, headers=AUTH
    ).text
    assert raw.count("\n") == 2 * raw.count("data: ")
    end = json.loads(raw.split("data: ")[-1])
    assert end["metadata"]["usage"]["price"] == "0.1"
    assert end["metadata"]["a"] == ["\n"]


class Unreadable(UserDict[str, object]):
    def __getitem__(self, key: str) -> object:
        raise KeyError(key)


@pytest.mark.parametrize(
    "metadata", [{"usage": object()}, {"usage": float("nan")}, Unreadable(usage=1)]
)
def test_metadata_that_is_no_json_is_logged_and_left_out(
    caplog: pytest.LogCaptureFixture, metadata: Mapping[str, object]
) -> None:
    end = Chat(metadata=metadata).ask().rest()[-1]
    assert end["metadata"]["end_reason"] == "finished"
    assert "metadata" in caplog.text


def test_a_wrong_on_disconnect_is_refused() -> None:
    chat = Chat(on_disconnect="ignore")
    chat.app.testing = True
    with pytest.raises(ValueError, match="'stop' or 'continue'"):
        chat.ask()


def test_a_source_that_raises_because_it_saw_the_stop_is_no_failure() -> None:
    entered, stopped = threading.Event(), threading.Event()

    def pieces(task: GenerationTask) -> Iterator[str]:
        entered.set()
        assert stopped.wait(5)
        task.raise_if_stopped()
        yield "went on"

    chat = Chat(pieces)
    answer = chat.ask()
    waiting = threading.Thread(target=lambda: events.extend(answer.rest()))
    events: list[dict[str, Any]] = []
    waiting.start()
    assert entered.wait(5)
    chat.stop(answer.task_id)
    stopped.set()
    waiting.join()
    assert events[-1]["metadata"]["end_reason"] == "stopped"

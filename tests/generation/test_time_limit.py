"""``start(time_limit=…)``: a runaway ends by itself, with a reason of its own."""

import gc
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NoReturn

import anyio
import pytest
import requests
from flask import Flask, Response

from flask_chatstop import (
    ChatStop,
    ConfigurationError,
    EndReason,
    GenerationEnd,
    GenerationTask,
    chat_response,
    task_ended,
    task_started,
)
from flask_chatstop.testing import wait_until
from tests.support.apps import make_app
from tests.support.chat import AUTH, Chat, Source
from tests.support.provider import Provider


def start(chat: Chat, time_limit: Any = 0.01, **options: Any) -> GenerationTask:
    with chat.app.app_context():
        return chat.chatstop.start(
            user="alice", app="demo", time_limit=time_limit, **options
        )


def events(response: Response) -> list[dict[str, Any]]:
    """Read an answer to its end."""
    sent = (str(frame, "utf-8") for frame in response.response)  # type: ignore[arg-type]
    return [json.loads(frame.removeprefix("data: ")) for frame in sent]


def last_event(response: Response) -> dict[str, Any]:
    return events(response)[-1]


def test_a_silent_model_is_hung_up_on_when_the_time_is_over(silent: Provider) -> None:
    def pieces() -> Iterator[str]:
        url = f"{silent.url}/chat/completions"
        with requests.post(url, stream=True, timeout=60) as reply:
            for piece in reply.iter_content(None):
                yield piece.decode()

    chat, ends = Chat(), list[GenerationEnd]()
    task = start(chat, time_limit=2)
    told = threading.Event()
    task.on_stop(told.set)
    response = chat_response(task, pieces(), on_end=ends.append)
    assert last_event(response)["metadata"]["end_reason"] == "timed_out"
    assert silent.calls[0].closed.wait(5)
    assert told.wait(5)
    [end] = ends
    assert (end.reason, end.error) == (EndReason.TIMED_OUT, None)
    wait_until(lambda: chat.stop(task.id).headers["Chatstop-Outcome"] == "ended")


async def silent_source() -> AsyncIterator[str]:
    yield "One "
    await anyio.sleep_forever()


def slow_source(task: GenerationTask) -> Iterator[str]:
    yield "One "
    task.wait(30)
    yield "never sent"


@pytest.mark.parametrize(
    ("config", "make"),
    [
        ({}, Source("One ")),
        ({}, lambda task: silent_source()),
        ({"CHATSTOP_ENABLED": False}, slow_source),
    ],
    ids=["thread", "async", "inline"],
)
def test_every_kind_of_source_is_limited(
    config: dict[str, object], make: Callable[[GenerationTask], Any]
) -> None:
    chat, ends = Chat(config=config), list[GenerationEnd]()
    task = start(chat, time_limit=0.1)
    response = chat_response(task, make(task), on_end=ends.append)
    *messages, last = events(response)
    assert last["metadata"]["end_reason"] == "timed_out"
    # On a busy machine the time may be over before the source has begun.
    sent = "".join(message["answer"] for message in messages)
    assert [(end.reason, end.text) for end in ends] == [("timed_out", sent)]
    assert sent in ("", "One ")


def test_an_answer_within_its_limit_is_finished() -> None:
    chat = Chat()
    task = start(chat, time_limit=60)
    response = chat_response(task, ["One"])
    assert last_event(response)["metadata"]["end_reason"] == "finished"
    task.time_out()
    assert task.end_reason is EndReason.FINISHED and not task.stopped


def test_a_stop_that_comes_as_the_time_is_over_is_told_the_truth() -> None:
    chat = Chat()
    task = start(chat, time_limit=None)
    task.time_out()
    assert chat.stop(task.id).headers["Chatstop-Outcome"] == "stopping"
    task.end("finished")
    assert task.end_reason is EndReason.STOPPED
    other = start(chat, time_limit=None)
    other.stop()
    other.time_out()
    other.end("finished")
    assert other.end_reason is EndReason.STOPPED


def test_a_view_that_waits_for_too_long_is_answered_with_the_reason() -> None:
    chatstop = ChatStop()
    app = make_app(chatstop)

    @app.post("/ask")
    @chatstop.login_required
    def ask() -> NoReturn:
        task = chatstop.start(user="alice", time_limit=0.01)
        assert task.wait(10)
        task.raise_if_stopped()
        raise AssertionError

    answer = app.test_client().post("/ask", headers=AUTH)
    assert answer.status_code == 200
    assert '"end_reason":"timed_out"' in answer.text


def test_a_limited_task_that_nobody_holds_is_collected() -> None:
    chat = Chat()
    reasons: list[EndReason] = []
    start(chat, time_limit=3600).on_end(lambda end: reasons.append(end.reason))
    gc.collect()
    wait_until(lambda: reasons == [EndReason.FAILED])


@pytest.mark.parametrize("time_limit", [0, -1, True, "5", float("nan"), float("inf")])
def test_a_limit_that_is_no_time_is_refused(time_limit: object) -> None:
    with pytest.raises(ConfigurationError, match="time_limit"):
        start(Chat(), time_limit=time_limit)


def test_a_task_whose_limit_nobody_could_watch_is_not_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin = threading.Thread.start

    def begin_others(thread: threading.Thread) -> None:
        if thread.name == "chatstop_time_limits":
            raise RuntimeError("can't start new thread")
        begin(thread)

    chat, heard = Chat(), list[object]()

    def on_started(sender: Flask, **_: object) -> None:
        heard.append("started")

    def on_ended(sender: Flask, reason: EndReason, **_: object) -> None:
        heard.append(reason)

    monkeypatch.setattr(threading.Thread, "start", begin_others)
    with (
        task_started.connected_to(on_started, chat.app),
        task_ended.connected_to(on_ended, chat.app),
        pytest.raises(RuntimeError),
    ):
        start(chat, task_id="one")
    assert heard == ["started", "failed"]
    wait_until(lambda: chat.stop("one").headers["Chatstop-Outcome"] == "ended")


@pytest.mark.parametrize("is_enabled", [True, False])
def test_the_limit_of_an_ended_task_takes_no_place(is_enabled: bool) -> None:
    chat = Chat(config={"CHATSTOP_ENABLED": is_enabled})
    task = start(chat, time_limit=3600)
    limits = chat.app.extensions["chatstop"].worker._time_limits
    assert list(limits._running) == [task.id]
    task.end("finished")
    assert limits._running == {}

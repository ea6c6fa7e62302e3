"""What the log says of a task whose id a client has chosen."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from flask_chatstop import (
    BackendError,
    GenerationEnd,
    GenerationTask,
    TaskStopped,
    chat_response,
)
from flask_chatstop.generation import watch
from flask_chatstop.testing import wait_until
from tests.support.apps import start
from tests.support.chat import Chat
from tests.support.faulty_worker import FaultyBackend

FORGED = "id\nERROR: forged\r\x1b[2J"


def begin(chat: Chat) -> GenerationTask:
    return start(chat.app, chat.chatstop, task_id=FORGED)


def fail(*_: object) -> None:
    raise LookupError("no such thing")


def read(task: GenerationTask, pieces: Any, **options: Any) -> None:
    for _ in chat_response(task, pieces, **options).iter_encoded():
        pass


def log_failed_callbacks(chat: Chat) -> None:
    task = begin(chat)
    task.on_stop(fail)
    task.stop()
    task.on_stop(fail)
    task.on_end(fail)
    task.on_source_end(fail)
    read(task, ["One "])


def log_a_failed_source(chat: Chat) -> None:
    def pieces() -> Iterator[str]:
        fail()
        yield "One "

    read(begin(chat), pieces())


def log_bad_metadata(chat: Chat) -> None:
    read(begin(chat), ["One "], metadata={"usage": object()})


def log_an_end_that_fails(chat: Chat) -> None:
    def leave(end: GenerationEnd) -> None:
        raise RuntimeError("in on_end")

    task = begin(chat)
    task.on_end(leave)
    task.end("finished")


def log_a_store_that_is_away(chat: Chat) -> None:
    backend = chat.app.config["CHATSTOP_BACKEND"]
    backend.is_cut = True
    begin(chat)
    chat.stop(FORGED.replace("\n", "%0A").replace("\r", "%0D"), user="bob")
    backend.is_cut = False


@pytest.mark.parametrize(
    "act",
    [
        log_failed_callbacks,
        log_a_failed_source,
        log_bad_metadata,
        log_an_end_that_fails,
        log_a_store_that_is_away,
    ],
)
def test_a_task_id_writes_no_line_of_its_own_into_the_log(
    act: Any, caplog: pytest.LogCaptureFixture
) -> None:
    chat = Chat(config={"CHATSTOP_BACKEND": FaultyBackend()})
    act(chat)
    wait_until(lambda: bool(caplog.records))
    for record in caplog.records:
        assert record.getMessage().isprintable()


def test_a_task_id_is_escaped_where_a_source_is_said_to_be_blocked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watch, "BLOCKED_AFTER", 0.1)
    monkeypatch.setattr(watch, "THREAD_AFTER", 0.3)
    go_on = threading.Event()
    task = begin(Chat())

    def source() -> Iterator[str]:
        yield "One "
        other = threading.Thread(target=go_on.wait, args=[30])
        other.start()
        other.join()

    stream = task.stream(source())
    next(stream)
    task.stop()
    wait_until(lambda: "still blocked" in caplog.text)
    wait_until(lambda: "waits for another thread" in caplog.text)
    go_on.set()
    for record in caplog.records:
        assert record.getMessage().isprintable()


def test_a_task_id_is_escaped_where_an_app_would_log_it() -> None:
    task = begin(Chat())
    task.stop()
    assert repr(task).isprintable()
    with pytest.raises(TaskStopped) as raised:
        task.raise_if_stopped()
    assert str(raised.value).isprintable()


def test_what_a_driver_quotes_is_one_line() -> None:
    error = BackendError("refused:\n\tDETAIL: (a\r\x1b[2J\u2028b)")
    assert str(error) == "refused: DETAIL: (a \\x1b[2J b)"

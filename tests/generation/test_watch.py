"""Saying where a source is blocked that was stopped and does not end."""

import contextlib
import threading
from collections.abc import Iterator

import httpx
import pytest

from flask_chatstop import GenerationTask
from flask_chatstop.generation import watch
from flask_chatstop.testing import wait_until
from tests.support.apps import new_task
from tests.support.chat import Chat
from tests.support.provider import Provider


@pytest.fixture
def task() -> GenerationTask:
    return new_task(Chat())


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Warn after moments, not after seconds."""
    monkeypatch.setattr(watch, "BLOCKED_AFTER", 0.1)
    monkeypatch.setattr(watch, "THREAD_AFTER", 0.3)


def is_said_to_be_blocked(
    task: GenerationTask, caplog: pytest.LogCaptureFixture
) -> bool:
    """Tell whether the log names this task; an earlier test's may be blocked too."""
    messages = [record.getMessage() for record in caplog.records]
    return any(repr(task.id) in x and "is still blocked" in x for x in messages)


@pytest.mark.usefixtures("soon")
def test_a_source_that_is_still_blocked_is_logged_with_the_place(
    task: GenerationTask, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = threading.Event()

    def wait_for_a_machine() -> None:
        go_on.wait(30)

    def source() -> Iterator[str]:
        yield "One "
        wait_for_a_machine()

    stream = task.stream(source())
    next(stream)
    task.stop()
    wait_until(lambda: is_said_to_be_blocked(task, caplog))
    go_on.set()
    assert "in wait_for_a_machine" in caplog.text


def test_a_source_that_ends_in_time_is_not_logged(
    task: GenerationTask,
    silent: Provider,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "BLOCKED_AFTER", 40.0)  # on a busy machine too
    with httpx.Client(timeout=None) as client:

        def source() -> Iterator[bytes]:
            try:
                with client.stream("POST", f"{silent.url}/chat/completions") as reply:
                    yield from reply.iter_raw()
            finally:
                over.set()

        over = threading.Event()
        stream = task.stream(source())
        next(stream)
        task.stop()
        list(stream)
        assert over.wait(30)
    assert not is_said_to_be_blocked(task, caplog)


@pytest.mark.usefixtures("soon")
def test_a_thread_that_does_not_work_for_the_task_is_named_as_the_likely_reason(
    task: GenerationTask, silent: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    replies: list[httpx.Response] = []

    def work() -> None:
        with httpx.Client(timeout=None) as client:
            request = client.build_request("POST", f"{silent.url}/chat/completions")
            replies.append(client.send(request, stream=True))
            with contextlib.suppress(httpx.HTTPError):  # hung up on by the test
                replies[0].read()

    def source() -> Iterator[str]:
        yield "One "
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    stream = task.stream(source())
    next(stream)
    wait_until(lambda: bool(silent.calls))
    task.stop()
    waiting = (
        f"The source of task {task.id!r}, stopped 0 s ago, waits for another thread"
    )
    wait_until(lambda: waiting in caplog.text)
    assert "task.bind()" in caplog.text
    silent.close()
    sock = replies[0].extensions["network_stream"].get_extra_info("socket")
    sock.shutdown(2)


@pytest.mark.usefixtures("soon")
def test_a_source_that_goes_on_after_its_stop_is_logged_once(
    task: GenerationTask, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = threading.Event()

    def source() -> Iterator[str]:
        yield "One "
        while not go_on.is_set():
            pass

    stream = task.stream(source())
    next(stream)
    task.stop()
    wait_until(lambda: is_said_to_be_blocked(task, caplog))
    task.stop()
    stream.close()
    go_on.set()
    assert caplog.text.count(f"Task {task.id!r} was stopped") == 1

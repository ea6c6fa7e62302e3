"""The task at hand, without being handed it, and when its source is really over."""

import asyncio
import concurrent.futures
import contextvars
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from flask import current_app

from flask_chatstop import (
    EndReason,
    GenerationTask,
    SourceStopped,
    TaskStopped,
    current_task,
)
from flask_chatstop.testing import wait_until
from tests.support.apps import new_task
from tests.support.chat import Chat, Source


@pytest.fixture
def task() -> GenerationTask:
    return new_task(Chat())


def test_without_a_task_it_says_why_it_is_unknown() -> None:
    with pytest.raises(RuntimeError, match=r"with task:.*task\.bind\(\)"):
        _ = current_task.id
    assert current_task.or_none() is None


def test_it_is_known_in_a_source_and_in_a_thread_that_copies_the_context(
    task: GenerationTask,
) -> None:
    def source() -> Iterator[str]:
        yield current_task.id
        with concurrent.futures.ThreadPoolExecutor() as pool:
            context = contextvars.copy_context()
            yield pool.submit(context.run, lambda: current_task.id).result()
        found: list[GenerationTask | None] = []

        def note() -> None:
            found.append(current_task.or_none())

        thread = threading.Thread(target=note)
        thread.start()
        thread.join()
        yield str(found[0])
        bound = threading.Thread(target=task.bind(note))
        bound.start()
        bound.join()
        yield str(found[1] == task)

    assert list(task.stream(source())) == [task.id, task.id, "None", "True"]


def test_it_is_known_in_a_view_within_the_with_block(task: GenerationTask) -> None:
    with task:
        assert current_task.id == task.id
        with current_task.shield():
            assert current_task.id == task.id
    assert current_task.or_none() is None


def test_a_tool_leaves_its_work_when_the_task_is_stopped(task: GenerationTask) -> None:
    raised: list[BaseException] = []
    working, over = threading.Event(), threading.Event()

    def tool() -> None:
        working.set()
        while not current_task.wait(60):
            pass
        try:
            current_task.raise_if_stopped()
        except SourceStopped as error:
            raised.append(error)
        over.set()

    def source() -> Iterator[str]:
        yield "One "
        tool()

    stream = task.stream(source())
    next(stream)
    assert working.wait(5)
    task.stop()
    assert over.wait(5)
    assert len(raised) == 1


def test_a_tool_leaves_its_work_when_the_client_has_left(task: GenerationTask) -> None:
    working, over = threading.Event(), threading.Event()

    def source() -> Iterator[str]:
        yield "One "
        working.set()
        if current_task.wait(60):
            with pytest.raises(SourceStopped):
                current_task.raise_if_stopped()
            over.set()

    stream = task.stream(source())
    next(stream)
    assert working.wait(5)
    stream.close()
    assert over.wait(5)


def test_a_process_of_a_tool_is_terminated(task: GenerationTask) -> None:
    processes: list[subprocess.Popen[bytes]] = []
    over = threading.Event()

    def source() -> Iterator[str]:
        yield "One "
        process = subprocess.Popen(["sleep", "60"])
        processes.append(process)
        current_task.on_stop(process.terminate)
        process.wait()
        over.set()

    stream = task.stream(source())
    next(stream)
    wait_until(lambda: bool(processes))
    task.stop()
    assert list(stream) == []
    assert over.wait(5)
    assert processes[0].returncode != 0


def test_waiting_for_a_stop_has_a_timeout(task: GenerationTask) -> None:
    assert task.wait(0.01) is False
    task.stop()
    assert task.wait() is True
    with pytest.raises(TaskStopped):
        task.raise_if_stopped()


# When the source is really over


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_end_of_a_source_comes_after_its_last_line(
    task: GenerationTask, kind: str
) -> None:
    order: list[str] = []
    source, gone = Source("One "), threading.Event()

    def pieces() -> Iterator[str]:
        try:
            yield from source()
        finally:
            order.append("tool result written")

    async def apieces() -> AsyncIterator[str]:
        yield "One "
        source.is_silent.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.to_thread(source.go_on.wait, 30)
            order.append("tool result written")

    @task.on_source_end
    def note() -> None:
        order.append(f"over in {current_app.name}")
        gone.set()

    task.on_end(lambda end: order.append(end.reason))
    stream = task.stream(pieces() if kind == "sync" else apieces())
    next(stream)
    assert source.is_silent.wait(5)
    task.stop()
    assert list(stream) == []
    assert not gone.is_set()
    source.go_on.set()
    assert gone.wait(5)
    assert order == [EndReason.STOPPED, "tool result written", "over in chat"]
    late: list[int] = []
    task.on_source_end(lambda: late.append(1))
    assert late == [1]


@pytest.mark.parametrize("begin", [list, lambda stream: stream.close()])
def test_the_end_of_a_source_is_told_however_it_ended(
    task: GenerationTask, begin: Callable[[Any], object]
) -> None:
    gone = threading.Event()
    task.on_source_end(gone.set)
    begin(task.stream(["One "]))
    assert gone.wait(5)


def test_what_a_callback_of_it_raises_is_logged(
    task: GenerationTask, caplog: pytest.LogCaptureFixture
) -> None:
    gone = threading.Event()
    task.on_source_end(lambda: 1 / 0)
    task.on_source_end(gone.set)
    list(task.stream(["One "]))
    assert gone.wait(5)
    assert "on_source_end of task" in caplog.text
    with pytest.raises(TypeError, match="on_source_end"):
        task.on_source_end("no function")  # type: ignore[arg-type]

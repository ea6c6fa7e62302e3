"""Streams that an app wraps in a generator tell the truth about their end."""

import gc
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from flask import Response, stream_with_context

from flask_chatstop import GenerationTask
from tests.support.chat import AUTH, Chat, Source

Wrap = Callable[[GenerationTask, Iterable[str]], Any]


def in_a_loop(task: GenerationTask, source: Iterable[str]) -> Iterator[str]:
    for chunk in task.stream(source):
        yield f"data: {chunk}\n\n"


def with_yield_from(task: GenerationTask, source: Iterable[str]) -> Iterator[str]:
    yield from task.stream(source)


def in_a_map(task: GenerationTask, source: Iterable[str]) -> Iterable[str]:
    return map(str.upper, task.stream(source))


def with_context(task: GenerationTask, source: Iterable[str]) -> Any:
    return stream_with_context(in_a_loop(task, source))


every_way = pytest.mark.parametrize(
    "wrap", [in_a_loop, with_yield_from, in_a_map, with_context]
)


class WrappingApp(Chat):
    """The chat, with ``POST /ask`` that wraps the stream."""

    def __init__(self, wrap: Wrap, source: Callable[[], Iterable[str]]) -> None:
        super().__init__()

        @self.app.post("/ask")
        @self.chatstop.login_required
        def ask_wrapped() -> Response:
            task = self.chatstop.start(user="alice")
            task.on_end(self.ends.append)
            self.tasks.append(task)
            return Response(wrap(task, source()), mimetype="text/event-stream")

    def begin(self) -> Any:
        return self.client.post("/ask", headers=AUTH)


@every_way
def test_a_client_that_leaves_is_said_to_have_left(wrap: Wrap) -> None:
    source = Source("One ")
    app = WrappingApp(wrap, source)
    response = app.begin()
    assert b"ONE" in next(iter(response.response)).upper()
    response.close()
    assert [end.reason for end in app.ends] == ["disconnected"]
    source.go_on.set()
    assert source.closed.wait(5)


@every_way
def test_a_client_is_said_to_have_left_where_a_hook_has_wrapped_the_body(
    wrap: Wrap,
) -> None:
    source = Source("One ")
    app = WrappingApp(wrap, source)

    @app.app.after_request
    def compress(response: Response) -> Response:
        response.response = map(bytes, response.iter_encoded())  # has no close()
        return response

    response = app.begin()
    next(iter(response.response))
    response.close()
    assert [end.reason for end in app.ends] == ["disconnected"]
    source.go_on.set()
    assert source.closed.wait(5)


class Body:
    """A body that counts how often it is closed."""

    closed = 0

    def __iter__(self) -> Iterator[str]:
        yield "text"

    def close(self) -> None:
        self.closed += 1


def test_a_body_of_the_app_is_closed_once() -> None:
    app, body = Chat(), Body()

    @app.app.post("/ask")
    @app.chatstop.login_required
    def ask() -> Response:
        app.tasks.append(app.chatstop.start(user="alice"))
        return Response(body)

    app.client.post("/ask", headers=AUTH).close()
    assert body.closed == 1


@every_way
def test_an_answer_that_is_read_to_its_end_has_finished(wrap: Wrap) -> None:
    app = WrappingApp(wrap, lambda: ["One ", "two"])
    with app.begin() as response:
        assert "TWO" in response.text.upper()
    assert [end.reason for end in app.ends] == ["finished"]


@every_way
def test_an_answer_that_is_stopped_was_stopped(wrap: Wrap) -> None:
    source = Source("One ")
    app = WrappingApp(wrap, source)
    with app.begin() as response:
        body = iter(response.response)
        next(body)
        app.stop(app.tasks[0].id)
        assert list(body) == []
    assert [end.reason for end in app.ends] == ["stopped"]
    source.go_on.set()


def test_what_a_wrapper_raises_is_the_error_of_the_end() -> None:
    def break_down(task: GenerationTask, source: Iterable[str]) -> Iterator[str]:
        for chunk in task.stream(source):
            yield chunk
            raise LookupError("in the wrapper")

    source = Source("One ")
    app = WrappingApp(break_down, source)
    response = app.begin()
    body = iter(response.response)
    next(body)
    with pytest.raises(LookupError):
        next(body)
    [end] = app.ends
    assert end.reason == "failed" and isinstance(end.error, LookupError)
    source.go_on.set()
    assert source.closed.wait(5)


def test_what_is_raised_before_the_stream_is_the_error_of_the_end() -> None:
    def break_down(task: GenerationTask, source: Iterable[str]) -> Iterator[str]:
        yield "Looking it up. "
        raise LookupError("before the stream")

    app = WrappingApp(break_down, list)
    body = iter(app.begin().response)
    next(body)
    with pytest.raises(LookupError):
        next(body)
    assert isinstance(app.ends[0].error, LookupError)


def test_an_end_that_a_wrapper_reports_itself_counts() -> None:
    def report(task: GenerationTask, source: Iterable[str]) -> Iterator[str]:
        try:
            yield from map(str.upper, task.stream(source))
        finally:
            task.end("finished")

    source = Source("One ")
    app = WrappingApp(report, source)
    response = app.begin()
    next(iter(response.response))
    response.close()
    assert [end.reason for end in app.ends] == ["finished"]
    source.go_on.set()


def test_a_stream_that_a_thread_of_the_app_reads_goes_on_without_the_client() -> None:
    def read_aside(task: GenerationTask, source: Iterable[str]) -> Iterator[str]:
        reading = threading.Thread(target=list, args=[task.stream(source)])
        reading.start()
        threads.append(reading)
        yield "It runs. "
        yield "It runs on. "

    threads: list[threading.Thread] = []
    source = Source("One ")
    app = WrappingApp(read_aside, source)
    response = app.begin()
    next(iter(response.response))
    assert source.is_silent.wait(5)
    response.close()
    assert app.ends == []
    source.go_on.set()
    threads[0].join()
    assert [end.reason for end in app.ends] == ["finished"]


def test_a_task_that_is_handed_to_a_thread_goes_on_after_a_streamed_body() -> None:
    app = WrappingApp(lambda task, source: iter(["It was begun."]), list)
    with app.begin() as response:
        assert response.text == "It was begun."
    assert app.ends == []
    app.tasks[0].end("finished")


def test_a_wrapped_stream_needs_no_garbage_collection() -> None:
    source = Source("One ")
    app = WrappingApp(in_a_loop, source)
    gc.disable()
    try:
        response = app.begin()
        app.tasks.clear()
        next(iter(response.response))
        response.close()
        assert [end.reason for end in app.ends] == ["disconnected"]
    finally:
        gc.enable()
        source.go_on.set()

"""Ending the tasks of a request when it fails or when its client leaves."""

import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, cast

from flask import Response, after_this_request, g, has_request_context

from flask_chatstop.backends import EndReason
from flask_chatstop.generation.task import GenerationTask


def end_with_request(task: GenerationTask) -> None:
    """End a task when the current request fails, or when its client leaves.

    A task that a thread of the app works for goes on. The garbage collector would end
    a lost task too, but that may take long, since a traceback may keep it alive.
    """
    if has_request_context():
        begun = _BegunTask(task)
        after_this_request(begun)
        # Not a list: a stream keeps what its request has kept.
        g._chatstop_begun = (*g.get("_chatstop_begun", ()), begun)


def end_if_raised(error: BaseException | None) -> None:
    """End the tasks of a request whose view has raised; for ``teardown_request``."""
    # In debug mode and in tests there may be no response. A client that leaves a
    # stream_with_context() causes a GeneratorExit, which is not an Exception.
    if isinstance(error, Exception):
        for begun in g.get("_chatstop_begun", ()):
            begun.fail()


class _BegunTask:
    """A task that the current request has begun, to be called with its response."""

    __slots__ = ("_reference",)

    def __init__(self, task: GenerationTask) -> None:
        self._reference = weakref.ref(task)

    def fail(self) -> None:
        if task := self._reference():
            task.end(EndReason.FAILED)

    def __call__(self, response: Response) -> Response:
        task = self._reference()
        if task is None or task.end_reason is not None:
            return response
        if response.status_code >= 400:
            task.end(EndReason.FAILED)
        elif response.is_streamed and not task.has_response:
            body = _WatchedBody(task, response.response)
            response.response = cast(Iterator[Any], body)
            # A hook of the app may wrap it in an iterator that has no close().
            response.call_on_close(body.close)
        return response


class _WatchedBody(Iterator[str | bytes]):
    """The body of a response that the app streams itself; tells the task of its end.

    Most are a generator around ``task.stream()``. The server closes the generator when
    the client has left, but not the stream in it. An error that the generator raises
    goes to the server, but not to the task.
    """

    def __init__(self, task: GenerationTask, body: Iterable[str | bytes]) -> None:
        self._task = task
        self._body = body
        self._iterator: Iterator[str | bytes] | None = None
        self._read_by: int | None = None
        self._is_closed = False

    def __next__(self) -> str | bytes:
        self._read_by = threading.get_ident()
        try:
            if self._iterator is None:
                self._iterator = iter(self._body)
            return next(self._iterator)
        except StopIteration:
            raise
        except Exception as error:
            if not self._is_read_elsewhere:
                self._task.end(EndReason.FAILED, error)
            raise

    @property
    def _is_read_elsewhere(self) -> bool:
        """Whether a thread of the app reads the task's stream, which then goes on."""
        return self._task.read_by not in (None, self._read_by)

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            if self._task.read_by is not None and not self._is_read_elsewhere:
                self._task.end(EndReason.DISCONNECTED)

"""The task as the reader of a source: from the source to the stream."""

import abc
from collections.abc import AsyncIterable, Iterable
from typing import TypeVar, overload

from flask import Flask

from flask_chatstop.backends import EndReason
from flask_chatstop.checks import seconds
from flask_chatstop.generation.async_source import AsyncSourceReader
from flask_chatstop.generation.callbacks import TaskWithCallbacks
from flask_chatstop.generation.inline_source import InlineReader
from flask_chatstop.generation.reader import Reader
from flask_chatstop.generation.source import SourceReader
from flask_chatstop.generation.source_check import check_source
from flask_chatstop.generation.stream import ChunkStream
from flask_chatstop.upstream.calls import Calls

T = TypeVar("T")


class StreamingTask(TaskWithCallbacks):
    """A task that streams what a source yields.

    :param is_inline: whether sources are read in the thread of their reader.
    """

    def __init__(self, app: Flask, calls: Calls, is_inline: bool) -> None:
        super().__init__(calls)
        self._is_inline = is_inline
        self._app = app
        #: The thread or greenlet that reads the stream.
        self.read_by: int | None = None
        #: Whether a response of ours sends the stream, and sees its end.
        self.has_response = False

    @property
    def app(self) -> Flask:
        """The Flask app that the task was begun in."""
        return self._app

    @abc.abstractmethod
    def end(self, reason: EndReason | str, error: BaseException | None = None) -> bool:
        """Report how the generation ended; the first report counts."""

    @abc.abstractmethod
    def wait_until_reported(self) -> None:
        """Wait until ``on_end`` has been called, if another thread is calling it."""

    @overload
    def stream(
        self,
        chunks: Iterable[T] | AsyncIterable[T],
        upstream: object | None = None,
        heartbeat: None = None,
    ) -> ChunkStream[T]: ...

    @overload
    def stream(
        self,
        chunks: Iterable[T] | AsyncIterable[T],
        upstream: object | None = None,
        *,
        heartbeat: float,
    ) -> ChunkStream[T | None]: ...

    def stream(
        self,
        chunks: Iterable[T] | AsyncIterable[T],
        upstream: object | None = None,
        heartbeat: float | None = None,
    ) -> ChunkStream[T] | ChunkStream[T | None]:
        """Yield the chunks of a source until it ends or the task is stopped.

        From the first ``next()`` on the source is read, at most 32 chunks ahead: an
        iterable by a thread of its own, an async iterable as an asyncio task on the
        event loop of the process. It has the caller's context variables and an app
        context of its own, whose teardown runs when the source has ended.

        A stop ends the stream at once, whatever the source is doing. It hangs up on
        the HTTP calls that the source has open, and cancels an async source. So does
        ``close()``, which a WSGI server calls when its client has left.

        :param chunks: the source; what it raises is raised here.
        :param upstream: a response that the source reads and has not opened itself,
            for :func:`hang_up`, or a callable that returns the one being read now.
        :param heartbeat: seconds of silence after which ``None`` is yielded, so that
            the caller can send something: only by sending does a server find out that
            its client has left.
        :raises ConfigurationError: the heartbeat is not a number above 0.
        :raises RuntimeError: the task already has a stream.
        :raises TypeError: the source is not iterable, or is a text, a mapping or a
            whole answer, whose letters, keys or fields would be read.
        """
        if heartbeat is not None:
            heartbeat = seconds("heartbeat", heartbeat)
        check_source(chunks)
        source = self._make_reader(chunks, upstream)
        with self._lock:
            if self._source is not None:
                raise RuntimeError(
                    f"Task {self.id!r} has a stream; start another task."
                )
            self._source = source
            is_over = self._stopped or self._end_reason is not None
        for callback in self._on_source_end:
            source.when_gone(callback)
        if is_over:
            source.close()
        return ChunkStream(self, source, heartbeat)

    def _make_reader(
        self, chunks: Iterable[T] | AsyncIterable[T], upstream: object
    ) -> Reader[T]:
        app, calls = self._app, self._calls
        if self._is_inline:
            return InlineReader(chunks, app, calls, upstream=upstream, name=self.id)
        if isinstance(chunks, AsyncIterable):
            return AsyncSourceReader(
                chunks, app, calls, upstream=upstream, name=self.id
            )
        return SourceReader(chunks, app, calls, upstream=upstream, name=self.id)

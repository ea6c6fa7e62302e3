"""What a reader of a source does, whatever kind of source it is."""

import abc
import contextvars
import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from flask import Flask

from flask_chatstop.checks import check_returned
from flask_chatstop.generation.queue import ChunkQueue
from flask_chatstop.logs import get_logger
from flask_chatstop.threads import start_thread
from flask_chatstop.upstream import hooks
from flask_chatstop.upstream.calls import Calls, bind, binding
from flask_chatstop.upstream.given import GivenUpstream

logger = get_logger(__name__)

T = TypeVar("T")


class SourceEnd:
    """The last item of a queue: the source has ended, perhaps with an error."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class Reader(abc.ABC, Generic[T]):
    """Reads a source into a bounded queue.

    Does not hold the task, so that a task nobody else holds can be collected while its
    source is silent, unless the source or its context variables hold it.

    :param app: the source is read in a context of this app. Its teardown runs when the
        source has ended, so that a database session of the source is given back.
    :param calls: the record of the task's calls, which the source carries.
    :param upstream: the response to hang up on, or a callable that returns the one
        being read now; ``None`` for the source itself.
    :param name: of the task, for the log.
    """

    __slots__ = (
        "_app",
        "_calls",
        "_closed",
        "_context",
        "_gone",
        "_hung_up",
        "_is_gone",
        "_is_over",
        "_lock",
        "_name",
        "_on_gone",
        "_pid",
        "_started",
        "_upstream",
        "items",
    )

    def __init__(
        self,
        chunks: object,
        app: Flask,
        calls: Calls,
        *,
        upstream: object,
        name: str,
    ) -> None:
        self._app = app
        self._calls = calls
        self._name = name
        calls.has_other_upstream |= upstream is not None
        is_source = upstream is None
        self._upstream = GivenUpstream(
            chunks if is_source else upstream, is_source=is_source
        )
        self._context = contextvars.copy_context()
        self._pid = os.getpid()
        self.items: ChunkQueue[T | SourceEnd] = self._make_queue()
        self._lock = calls.lock  # each lock takes memory under gevent
        self._started = self._closed = self._is_over = self._is_gone = False
        self._gone: threading.Event | None = None
        self._hung_up: threading.Event | None = None
        self._on_gone: tuple[Callable[[], object], ...] = ()

    def start(self) -> None:
        """Begin to read, unless :meth:`close` came first.

        :raises RuntimeError: there are too many threads.
        """
        with self._lock:
            if self._started or self._closed:
                return
            # Under the lock: close() must know whether somebody will close the source.
            # What hits the server here, like a gevent.Timeout, hits it where it waits
            # for the thread, which has begun.
            self._started = True
            try:
                self._begin()
            except Exception:
                self._started = False
                raise

    def wake(self, seconds: float) -> bool:
        """Wake the reader of the stream, who then sees that its task is over.

        Whoever wakes it then waits: with another thread to run, the reader would get
        the interpreter late, and the client its last bytes.

        :param seconds: how long to wait for the reader.
        :returns: whether the reader has hung up by then.
        """
        hung_up = threading.Event()
        with self._lock:
            self._hung_up = hung_up
            if self._closed:
                hung_up.set()
        self.items.put(SourceEnd())
        return hung_up.wait(seconds)

    def close(self) -> None:
        """Hang up on what the source waits for, and have it closed where it runs.

        Done once, and not by a forked child, whose parent reads on.
        """
        if self._pid != os.getpid():
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if not self._is_gone:
                self._gone = threading.Event()
            hung_up = self._hung_up
        self._hang_up()
        if hung_up is not None:
            hung_up.set()

    def _hang_up(self) -> None:
        self._end_calls()
        self.items.put(SourceEnd())
        self.items.unbind()
        if self._is_over:
            # The connection of its upstream may serve another request by now.
            return
        upstream = self._upstream
        if upstream.is_looked_up:
            # In a thread of its own: to look it up is the app's code.
            start_thread(
                upstream.hang_up_until,
                lambda: self._is_over or not self._started,
                instead=upstream.hang_up,
            )
        else:
            upstream.hang_up()
        if self._started:
            start_thread(self._watch, instead=_do_nothing)
        else:
            self._close_unread()

    def when_gone(self, callback: Callable[[], object]) -> None:
        """Call back when the source is over, cleanup included; at once if it is."""
        with self._lock:
            if not self._is_gone:
                self._on_gone += (callback,)
                return
        self._call(callback)

    @abc.abstractmethod
    def _begin(self) -> None:
        """Begin to read, somewhere that is not this thread."""

    @abc.abstractmethod
    def _end_calls(self) -> None:
        """End what the source waits for."""

    @abc.abstractmethod
    def _close_unread(self) -> None:
        """Close a source that was never read."""

    @abc.abstractmethod
    def _watch(self) -> None:
        """Log where the source is blocked if it does not end."""

    def _make_queue(self) -> ChunkQueue[T | SourceEnd]:
        return ChunkQueue()

    def _bind(self) -> None:
        """Let the context of the source work for the task."""
        bind(self._calls)
        if self._calls.is_tracking:
            hooks.install()

    def _wait_until_gone(self, seconds: float) -> bool:
        return self._gone is None or self._gone.wait(seconds)

    def _leave(self) -> None:
        """Note that the source is over, cleanup included."""
        with self._lock:
            self._is_over = self._is_gone = True
            gone, callbacks = self._gone, self._on_gone
        if gone is not None:
            gone.set()
        self._tell(callbacks)

    def _tell(self, callbacks: tuple[Callable[[], object], ...]) -> None:
        for callback in callbacks:
            self._call(callback)

    def _call(self, callback: Callable[[], object]) -> None:
        try:
            with binding(self._calls, is_shielded=True), self._app.app_context():
                check_returned("on_source_end", callback())
        except Exception:
            logger.exception("on_source_end of task %r failed.", self._name)


def _do_nothing() -> None:
    """Stand in for what is not worth the caller's time."""

"""The thread that reads a source, and hangs up on what the source waits for."""

import contextvars
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from flask import Flask

from flask_chatstop.errors import SourceStopped
from flask_chatstop.generation.queue import ChunkQueue
from flask_chatstop.generation.watch import (
    BLOCKED_AFTER,
    THREAD_AFTER,
    FindFrame,
    frame_finder,
    warn_of_blocked,
    warn_of_thread,
)
from flask_chatstop.threads import start_thread
from flask_chatstop.upstream import hooks
from flask_chatstop.upstream.calls import Calls, bind
from flask_chatstop.upstream.hang_up import hang_up, warn_of_unknown

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds between two looks at what a closed source reads: at first, and at last.
_SOON, _LATER = 0.05, 0.25


class SourceEnd:
    """The last item of a queue: the source has ended, perhaps with an error."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class SourceReader(Generic[T]):
    """Reads a source in a thread of its own into a bounded queue.

    Does not hold the task, so that a task nobody else holds can be collected while its
    source is silent, unless the source or its context variables hold it.

    :param name: of the task, for the log.
    :param calls: the record of the task's calls, which the source's thread carries.
    :param upstream: the response to hang up on, or a callable that returns the one
        being read now; by default the source itself.
    :param app: the source is read in a context of this app. Its teardown runs when the
        source has ended, so that a database session of the source is given back.
    :raises TypeError: the source is not iterable.
    """

    #: What was hung up on last, and whether that has failed; few ever need them.
    _left: object = None
    _has_failed = False
    _thread: threading.Thread | None = None
    _find_frame: FindFrame | None = None

    def __init__(
        self,
        chunks: Iterable[T],
        upstream: object | Callable[[], object],
        app: Flask,
        calls: Calls,
        name: str,
    ) -> None:
        if not isinstance(chunks, Iterable):
            raise TypeError(
                f"A source must be a plain iterable, and {type(chunks).__name__} is"
                " not; use the synchronous client of the model provider."
            )
        self._chunks = chunks
        self._app = app
        self._upstream = upstream
        self._calls = calls
        calls.has_other_upstream |= upstream is not None
        self._name = name
        self._context = contextvars.copy_context()
        self._pid = os.getpid()
        self.items: ChunkQueue[T | SourceEnd] = ChunkQueue()
        self._lock = threading.Lock()
        self._started = self._closed = self._is_over = False

    def start(self) -> None:
        """Begin to read, unless :meth:`close` came first.

        :raises RuntimeError: there are too many threads.
        """
        with self._lock:
            if self._started or self._closed:
                return
            # Under the lock: close() must know whether a thread will close the source.
            thread = threading.Thread(
                target=self._context.run,
                args=(self._run,),
                name="chatstop_read",
                daemon=True,
            )
            thread.start()
            self._thread = thread
            self._started = True

    def wake(self) -> None:
        """Wake the reader, who then sees that its task is over."""
        self.items.put(SourceEnd())

    def close(self) -> None:
        """Hang up on what the source waits for, and have it closed in its own thread.

        Done once, and not by a forked child, whose parent reads on.
        """
        if self._pid != os.getpid():
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            started = self._started
        self._calls.cut()
        self.wake()
        self.items.unbind()
        if self._is_over:
            # The connection of its upstream may serve another request by now.
            return
        if callable(self._upstream):
            # In a thread of its own: to look up the upstream is the app's code.
            start_thread(
                self._leave_for_good, started, instead=lambda: self._leave(started)
            )
        else:
            self._leave(started)
        if self._thread is not None:
            start_thread(self._watch, self._thread, instead=_do_nothing)

    def _watch(self, thread: threading.Thread) -> None:
        """Log where the source is blocked if it does not end."""
        thread.join(BLOCKED_AFTER)
        # A library that tries again is refused each time, and gives up by itself.
        gives_up = self._calls.was_refused_within(BLOCKED_AFTER)
        if thread.is_alive() and self._find_frame and not gives_up:
            warn_of_blocked(self._name, self._find_frame)
        thread.join(THREAD_AFTER - BLOCKED_AFTER)
        if thread.is_alive() and self._find_frame:
            if gives_up:
                warn_of_blocked(self._name, self._find_frame)
            warn_of_thread(self._name, self._find_frame)

    def _leave(self, started: bool) -> None:
        self._hang_up()
        if not started:
            self._close_source()

    def _upstream_now(self) -> object:
        if self._upstream is None:
            return self._chunks
        return self._upstream() if callable(self._upstream) else self._upstream

    def _hang_up(self) -> None:
        try:
            upstream = self._upstream_now()
            if upstream is not self._left:
                self._left = upstream
                if not hang_up(upstream) and self._upstream is not None:
                    warn_of_unknown(upstream)
        except Exception:  # the upstream is the app's object, and the end goes on
            if not self._has_failed:
                self._has_failed = True
                logger.exception("Could not hang up on the upstream.")

    def _leave_for_good(self, started: bool) -> None:
        self._leave(started)
        # The source may be waiting for the headers of an answer, or ask for another
        # answer. If that stays silent, its thread would wait for ever.
        pause = _SOON
        while started and not self._is_over:
            time.sleep(pause)
            pause = min(2 * pause, _LATER)
            if not self._is_over:
                self._hang_up()

    def _run(self) -> None:
        self._find_frame = frame_finder()
        bind(self._calls)
        try:
            if self._calls.is_tracking:
                hooks.install()
            with self._app.app_context():
                self._read()
        except BaseException as error:  # the app's, as its context began or ended
            logger.exception("The app context of a source failed.")
            self.items.put(SourceEnd(error))
        finally:
            self._is_over = True

    def _read(self) -> None:
        items = self.items
        error: BaseException | None = None
        try:
            for chunk in self._chunks:
                items.put(chunk)
                items.wait_for_space()
                if self._closed:
                    break
        except BaseException as caught:
            error = caught
        self._is_over = True
        items.put(SourceEnd(error))
        if self._closed:
            # The upstream may not have existed yet when the stream was closed.
            self._hang_up()
        self._close_source()

    def _close_source(self) -> None:
        if self._closed:
            # What the source does in a `finally` is its cleanup.
            self._calls.let_through()
        for get in (lambda: self._chunks, self._upstream_now):
            try:
                close = getattr(get(), "close", None)
                if callable(close):
                    close()
            except (Exception, SourceStopped) as error:  # it is over all the same
                logger.debug("Closing the source raised %r.", error)


def _do_nothing() -> None:
    """Stand in for what is not worth the caller's time."""

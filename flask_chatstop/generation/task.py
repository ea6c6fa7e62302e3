"""The handle of one running generation."""

import logging
import os
import threading
import time
import weakref
from collections.abc import AsyncIterable, Callable, Iterable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from functools import wraps
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, overload

from flask import Flask

from flask_chatstop.backends import EndReason, TaskRecord
from flask_chatstop.checks import check_callable, seconds
from flask_chatstop.errors import ChatStopError, SourceStopped
from flask_chatstop.generation.async_source import AsyncSourceReader
from flask_chatstop.generation.end import GenerationEnd, tell_app
from flask_chatstop.generation.reader import Reader
from flask_chatstop.generation.source import SourceReader
from flask_chatstop.generation.stream import ChunkStream
from flask_chatstop.signals import send, task_ended, task_started
from flask_chatstop.threads import start_thread
from flask_chatstop.upstream import hooks
from flask_chatstop.upstream.calls import (
    Binding,
    Calls,
    bind,
    binding,
    bound,
    restore,
)
from flask_chatstop.worker import Worker

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# What this context worked for before each `with task:` that it is in.
_outer: ContextVar[tuple[Binding | None, Any] | None] = ContextVar(
    "chatstop_outer", default=None
)

#: Seconds that a stop leaves the interpreter to the reader that it woke.
_FOR_THE_READER = 0.0001
#: Seconds by which the last bytes to the client go before the hanging up.
_AFTER_THE_READER = 0.001
#: Seconds that a reader may take to report the end of a stopped task.
_STALLED = 1.0


class TaskStopped(ChatStopError):
    """Leave a generation that somebody has stopped.

    A view need not catch it: the blueprint answers it with an event stream that
    holds nothing but the end of a stopped answer.

    :param task: the task that was stopped.
    """

    def __init__(self, task: "GenerationTask") -> None:
        super().__init__(f"Task {task.id} was stopped.")
        self.task = task


class GenerationTask:
    """One generation that can be stopped, from its start to its one end.

    Give it to ``chat_response`` together with the source of the answer, or read the
    source yourself through :meth:`stream`. Code that works for the answer can look at
    :attr:`stopped` or register :meth:`on_stop`.

    Keep a reference while the generation runs: a task that is garbage collected before
    it has ended is reported as failed.
    """

    def __init__(
        self,
        record: TaskRecord,
        app: Flask,
        worker: Worker,
        *,
        tracks_calls: bool = True,
    ) -> None:
        self.record = record
        self._calls = Calls(tracks_calls, weakref.ref(self))
        self._app = app
        self._worker = worker
        # Reentrant: the garbage collector may run an app's own `finally: task.end()`
        # in the thread that holds it.
        self._lock = threading.RLock()
        self._started_at = time.monotonic()
        self._pid: int | None = None
        self._source: Reader[Any] | None = None
        self._stopped = False
        self._is_reported = threading.Event()
        self._unwanted: threading.Event | None = None
        self._end_reason: EndReason | None = None
        self._on_stop: list[Callable[[], object]] = []
        self._on_end: list[Callable[[GenerationEnd], object]] = []
        self._on_source_end: list[Callable[[], object]] = []

    def begin(self) -> None:
        """Make the task known to the store; :meth:`ChatStop.start` has done it.

        :raises TaskExists: its id is taken.
        """
        self._worker.start(self)
        self._pid = os.getpid()
        send(task_started, self._app, task=self)

    def __del__(self) -> None:
        # A forked child drops its copies of tasks that its parent goes on running.
        if self._end_reason is None and self._pid == os.getpid():
            self._worker.abandon(self)

    def __repr__(self) -> str:
        state = self._end_reason or ("stopping" if self._stopped else "running")
        return f"<GenerationTask {self.id} {state}>"

    @property
    def _is_copy(self) -> bool:
        """Whether this is a forked child's copy of a task that its parent runs."""
        return self._pid not in (None, os.getpid())

    @property
    def id(self) -> str:
        """The task id, which the client sends to stop it."""
        return self.record.task_id

    @property
    def app(self) -> Flask:
        """The Flask app that the task was begun in."""
        return self._app

    @property
    def stopped(self) -> bool:
        """Whether somebody has asked the task to stop."""
        if self._stopped and self._is_at_work:
            # Who looks will clean up next, and may save what there is.
            self._calls.note_seen()
        return self._stopped

    @property
    def _is_at_work(self) -> bool:
        """Whether this thread or asyncio task works for the task."""
        here = bound()
        return here is not None and here.calls is self._calls

    @property
    def end_reason(self) -> EndReason | None:
        """How the generation ended, ``None`` while it runs."""
        return self._end_reason

    @property
    def _is_unwanted(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self._stopped or self._end_reason not in (None, EndReason.FINISHED)

    def raise_if_stopped(self) -> None:
        """Leave work that nobody waits for any more.

        :raises TaskStopped: somebody has asked the task to stop.
        :raises SourceStopped: the same in the source of the task, and also after its
            client has left.
        """
        here = bound()
        is_source = here is not None and here.calls is self._calls and not here.in_view
        if is_source and self._is_unwanted:
            self._calls.tell()
        if self._stopped:
            raise TaskStopped(self)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nobody waits for the answer any more, instead of sleeping.

        ::

            while not machine.is_ready():
                if task.wait(1.0):
                    return

        :param timeout: seconds; without one it waits for as long as it takes.
        :returns: whether the task was stopped or has ended, as when its client left.
        """
        with self._lock:
            if self._unwanted is None:
                self._unwanted = threading.Event()
            if self._is_unwanted:
                self._unwanted.set()
        is_over = self._unwanted.wait(timeout)
        if is_over and self._is_at_work:
            self._calls.note_seen()
        return is_over

    def __enter__(self) -> Self:
        """Let a view work for the task: a stop ends the calls that are made here.

        ::

            with task:
                reply = client.chat.completions.create(..., stream=True)

        :raises TaskStopped: on leaving, if a call here was cut or refused.
        """
        if self._calls.is_tracking:
            hooks.install()
        before = bind(self._calls, in_view=True)
        _outer.set((before, _outer.get()))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        before, outer = _outer.get() or (None, None)
        _outer.set(outer)
        restore(before)
        if isinstance(exc, SourceStopped):
            # Flask handles no BaseException.
            raise TaskStopped(self) from exc

    def bind(self, function: Callable[P, T]) -> Callable[P, T]:
        """Return a function that works for the task, for a thread of the app.

        ::

            Thread(target=task.bind(work)).start()

        Only a thread that works for the task has its calls hung up on. The thread of
        the source does, and one that copies its context. A plain thread does not.
        """
        calls = self._calls
        if calls.is_tracking:
            hooks.install()

        @wraps(function)
        def bound_function(*args: P.args, **kwargs: P.kwargs) -> T:
            with binding(calls):
                return function(*args, **kwargs)

        return bound_function

    def shield(self) -> AbstractContextManager[None]:
        """Let calls pass that a stop is not to touch, like saving a partial answer.

        ::

            with task.shield():
                requests.put(url, json={"text": text})
        """
        return binding(self._calls, is_shielded=True)

    def on_stop(self, callback: Callable[[], T]) -> Callable[[], T]:
        """Have ``callback()`` called when the task is stopped, at once if it was.

        It runs in a thread of its own, or in the caller's if the stop came before,
        without an app context. What it raises is logged. May be used as a decorator.

        :raises TypeError: it cannot be called.
        """
        check_callable("on_stop", callback)
        self._calls.has_other_upstream = True
        with self._lock:
            if not self._stopped:
                self._on_stop.append(callback)
                return callback
        self._call(callback)
        return callback

    def on_end(
        self, callback: Callable[[GenerationEnd], T]
    ) -> Callable[[GenerationEnd], T]:
        """Have ``callback(end)`` called once when the generation has ended.

        It runs with the app context pushed, in the thread that saw the end, before
        the client is told of it. What it raises is logged. May be used as a
        decorator.

        :raises RuntimeError: the generation has ended already.
        :raises TypeError: it cannot be called.
        """
        check_callable("on_end", callback)
        with self._lock:
            if self._end_reason is not None:
                raise RuntimeError(f"Task {self.id} has ended; register on_end before.")
            self._on_end.append(callback)
        return callback

    def on_source_end(self, callback: Callable[[], T]) -> Callable[[], T]:
        """Have ``callback()`` called once when the source is really over.

        A stop ends the stream at once, and ``on_end`` is called then. The source may
        work on, in a tool or in a ``finally``. This is called after its last line, in
        its thread or on its event loop, with an app context pushed. It is called at
        once if the source is over. What it raises is logged. May be used as a
        decorator.

        :raises TypeError: it is not callable.
        """
        check_callable("on_source_end", callback)
        with self._lock:
            source = self._source
            if source is None:
                self._on_source_end.append(callback)
                return callback
        source.when_gone(callback)
        return callback

    def stop(self) -> bool:
        """Stop the generation here and now; any thread may call it.

        Wakes the stream's reader. Hanging up and the callbacks of :meth:`on_stop` run
        in threads of their own, so that a slow one delays no other stop.

        :returns: whether the generation was still running. In a forked child, a copy
            of a task that the parent runs is left alone and ``False`` is returned.
        """
        if self._is_copy:
            return False
        with self._lock:
            if self._end_reason is not None:
                return False
            if self._stopped:
                return True
            self._stopped = True
            self._calls.refuse()
            if self._unwanted is not None:
                self._unwanted.set()
            callbacks, self._on_stop = self._on_stop, []
            source = self._source
        if source is None:
            start_thread(self._calls.cut)
        else:
            source.wake()
            # To begin a thread takes as long as the reader does to send its last bytes.
            time.sleep(_FOR_THE_READER)
            start_thread(self._call_off, source)
        for callback in callbacks:
            start_thread(self._call_soon, callback)
        return True

    def _call_off(self, source: Reader[Any]) -> None:
        time.sleep(_AFTER_THE_READER)
        source.close()
        # A reader whose client has stalled cannot report the end.
        if not self._is_reported.wait(_STALLED):
            self.end(EndReason.STOPPED)

    def _call_soon(self, callback: Callable[[], object]) -> None:
        time.sleep(_AFTER_THE_READER)
        self._call(callback)

    def _call(self, callback: Callable[[], object]) -> None:
        try:
            callback()
        except Exception:
            logger.exception("on_stop of task %s failed.", self.id)

    def end(self, reason: EndReason | str, error: BaseException | None = None) -> bool:
        """Report how the generation ended; the first report counts.

        Call it from a loop of your own. :meth:`stream` and ``chat_response`` call it
        by themselves. The end of a task that was asked to stop is ``stopped``,
        whatever is reported: the stop may have caused it.

        :param reason: an :class:`EndReason` or its value.
        :param error: what went wrong, if the reason is ``failed``.
        :returns: whether this was the first report.
        :raises ValueError: the reason is unknown.
        """
        reason = EndReason(reason)
        if self._is_copy:
            return False
        with self._lock:
            if self._end_reason is not None:
                return False
            if self._stopped:
                reason, error = EndReason.STOPPED, None
            # First of all: the garbage collector may call end() again in this thread.
            self._end_reason = reason
            callbacks, self._on_end = self._on_end, []
            self._on_stop = []
            if self._unwanted is not None:
                self._unwanted.set()
        try:
            if not self._stopped:  # after a stop, its thread does it
                self._leave(reason)
        finally:
            try:
                # Without a receiver no app context is made: a client waits.
                if callbacks or task_ended.receivers:
                    end = self._describe(reason, error)
                    with self.shield():  # it may be called in the source
                        tell_app(self._app, self, end, callbacks)
            finally:
                self._is_reported.set()
                self._worker.ended(self, reason)
        return True

    def _leave(self, reason: EndReason) -> None:
        """Hang up, unless the source has ended by itself: what it sent off goes on."""
        if reason is EndReason.FINISHED:
            self._calls.finish()
        else:
            self._calls.cut()
        if self._source is not None:
            self._source.close()

    def _describe(
        self, reason: EndReason, error: BaseException | None
    ) -> GenerationEnd:
        return GenerationEnd(
            task_id=self.id,
            user=self.record.owner.user,
            reason=reason,
            duration=time.monotonic() - self._started_at,
            error=error,
        )

    def wait_until_reported(self) -> None:
        """Wait until ``on_end`` has been called, if another thread is calling it."""
        if not self._is_copy:
            self._is_reported.wait()

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
        :raises TypeError: the source is not iterable.
        """
        if heartbeat is not None:
            heartbeat = seconds("heartbeat", heartbeat)
        source = self._make_reader(chunks, upstream)
        with self._lock:
            if self._source is not None:
                raise RuntimeError(f"Task {self.id} has a stream; start another task.")
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
        if isinstance(chunks, AsyncIterable):
            return AsyncSourceReader(
                chunks, app, calls, upstream=upstream, name=self.id
            )
        return SourceReader(chunks, app, calls, upstream=upstream, name=self.id)

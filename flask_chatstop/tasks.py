"""The handle of one running generation."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from flask import Flask

from flask_chatstop.backends import EndReason, TaskRecord
from flask_chatstop.backends.base import seconds
from flask_chatstop.errors import TaskStopped
from flask_chatstop.pump import Pump, aside
from flask_chatstop.signals import send, task_ended, task_started
from flask_chatstop.streaming import ChunkStream
from flask_chatstop.worker import Worker

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds that a stop leaves the interpreter to the reader that it woke.
_FOR_THE_READER = 0.0001
#: Seconds by which the last bytes to the client go before the hanging up.
_AFTER_THE_READER = 0.001
#: Seconds that a reader may take to report the end of a stopped task.
_STALLED = 1.0


def check_callable(name: str, callback: object) -> None:
    """Refuse what cannot be called.

    :raises TypeError: it cannot.
    """
    if not callable(callback):
        raise TypeError(f"{name} is a {type(callback).__name__}; give it a function.")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationEnd:
    """How a generation ended, as ``on_end`` gets it.

    :param reason: ``finished``, ``stopped``, ``disconnected`` or ``failed``.
    :param text: the answer as far as it was sent; empty without ``chat_response``.
    :param error: what the source raised, if the reason is ``failed``.
    :param duration: seconds since the task began.
    """

    task_id: str
    user: str
    reason: EndReason
    duration: float
    error: BaseException | None = None
    text: str = ""
    message_id: str | None = None
    conversation_id: str | None = None


class GenerationTask:
    """One generation, stoppable from the moment :meth:`ChatStop.start` returns it.

    Whoever runs the generation holds the task: when the last reference goes before
    an end was reported, the generation has died, and is reported as failed.
    """

    def __init__(self, record: TaskRecord, app: Flask, worker: Worker) -> None:
        self.record = record
        self._app = app
        self._worker = worker
        # Reentrant: the garbage collector may run an app's own `finally: task.end()`
        # in the thread that holds it.
        self._lock = threading.RLock()
        self._started_at = time.monotonic()
        self._pid: int | None = None
        self._pump: Pump[Any] | None = None
        self._stopped = False
        self._is_reported = threading.Event()
        self._end_reason: EndReason | None = None
        self._on_stop: list[Callable[[], object]] = []
        self._on_end: list[Callable[[GenerationEnd], object]] = []

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
        return self._stopped

    @property
    def end_reason(self) -> EndReason | None:
        """How the generation ended, ``None`` while it runs."""
        return self._end_reason

    def raise_if_stopped(self) -> None:
        """Leave a slow preparation that nobody waits for any more.

        :raises TaskStopped: somebody has asked the task to stop.
        """
        if self._stopped:
            raise TaskStopped(self)

    def on_stop(self, callback: Callable[[], T]) -> Callable[[], T]:
        """Have ``callback()`` called when the task is stopped, at once if it was.

        It runs in a thread of its own, or in the caller's if the stop came before,
        without an app context. What it raises is logged. May be used as a decorator.

        :raises TypeError: it cannot be called.
        """
        check_callable("on_stop", callback)
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

    def stop(self) -> bool:
        """Stop the generation here and now; callable from any thread.

        Wakes the stream's reader, and leaves hanging up and the callbacks of
        :meth:`on_stop` to threads of their own, so that a slow one delays no other
        stop.

        :returns: whether the generation was still running; a forked child's copy of a
            task that its parent runs is not, and is left alone.
        """
        if self._is_copy:
            return False
        with self._lock:
            if self._end_reason is not None:
                return False
            if self._stopped:
                return True
            self._stopped = True
            callbacks, self._on_stop = self._on_stop, []
            pump = self._pump
        if pump is not None:
            pump.wake()
            # To begin a thread takes as long as the reader does to send its last bytes.
            time.sleep(_FOR_THE_READER)
            _late_if_not_aside(self._call_off, pump)
        for callback in callbacks:
            _late_if_not_aside(self._call_soon, callback)
        return True

    def _call_off(self, pump: Pump[Any]) -> None:
        time.sleep(_AFTER_THE_READER)
        pump.close()
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

        A loop of your own calls it; :meth:`stream` and ``chat_response`` do it by
        themselves, so a source of theirs does not. The end of a task that was asked to
        stop is ``stopped``, whatever is reported: the stop may have caused it.

        :param reason: an :class:`EndReason` or its value.
        :param error: what went wrong, if the reason is ``failed``.
        :returns: whether this was the first report.
        :raises ValueError: there is no such reason.
        """
        reason = EndReason(reason)
        if self._is_copy:
            return False
        with self._lock:
            if self._end_reason is not None:
                return False
            if self._stopped:
                reason, error = EndReason.STOPPED, None
            self._end_reason = reason  # first, see the lock
            callbacks, self._on_end = self._on_end, []
            self._on_stop = []
        try:
            if self._pump is not None and not self._stopped:
                self._pump.close()  # a stop has a thread for it
        finally:
            try:
                self._report(reason, error, callbacks)
            finally:
                self._is_reported.set()
                self._worker.ended(self, reason)
        return True

    def wait_until_reported(self) -> None:
        """Wait until ``on_end`` has been called, if another thread is doing it."""
        if not self._is_copy:
            self._is_reported.wait()

    def _report(
        self,
        reason: EndReason,
        error: BaseException | None,
        callbacks: Sequence[Callable[[GenerationEnd], object]],
    ) -> None:
        if not callbacks and not task_ended.receivers:
            return  # and no context is made for nobody: a client waits
        duration = time.monotonic() - self._started_at
        end = GenerationEnd(
            task_id=self.id,
            user=self.record.owner.user,
            reason=reason,
            duration=duration,
            error=error,
        )
        exits: list[BaseException] = []
        with self._app.app_context():
            for callback in callbacks:
                try:
                    callback(end)
                except Exception:
                    logger.exception("on_end of task %s failed.", self.id)
                except BaseException as error:  # when the others have been called
                    exits.append(error)
            send(task_ended, self._app, task=self, reason=reason, duration=duration)
        if exits:
            raise exits[0]

    @overload
    def stream(
        self,
        chunks: Iterable[T],
        upstream: object | None = None,
        heartbeat: None = None,
    ) -> ChunkStream[T]: ...

    @overload
    def stream(
        self, chunks: Iterable[T], upstream: object | None = None, *, heartbeat: float
    ) -> ChunkStream[T | None]: ...

    def stream(
        self,
        chunks: Iterable[T],
        upstream: object | None = None,
        heartbeat: float | None = None,
    ) -> ChunkStream[T] | ChunkStream[T | None]:
        """Yield the chunks of a source until it ends or the task is stopped.

        A helper thread reads the source from the first ``next()`` on, at most 32 chunks
        ahead, with the context variables of the caller and in an app context of its
        own, whose teardown runs when the source has ended. A stop ends the
        stream at once, whatever the source is doing, and hangs up on the upstream.
        So does ``close()``, which a WSGI server calls when its client has left.

        :param chunks: the source; what it raises is raised here.
        :param upstream: the provider's response, for :func:`hang_up`, or a callable
            that gives the one being read at the moment; the source unless given.
        :param heartbeat: seconds of silence after which ``None`` is yielded, so that
            the caller can send something: a server finds out only by sending that
            its client has left.
        :raises ConfigurationError: the heartbeat is no number above 0.
        :raises RuntimeError: the task has a stream already.
        :raises TypeError: the source is not iterable.
        """
        if heartbeat is not None:
            heartbeat = seconds("heartbeat", heartbeat)
        pump = Pump(chunks, upstream, self._app)
        with self._lock:
            if self._pump is not None:
                raise RuntimeError(f"Task {self.id} has a stream; start another task.")
            self._pump = pump
            is_over = self._stopped or self._end_reason is not None
        if is_over:
            pump.close()
        return ChunkStream(self, pump, heartbeat)


def _late_if_not_aside(act: Callable[..., object], *arguments: object) -> None:
    # Where there are too many threads, late is not never.
    if not aside(act, *arguments):
        act(*arguments)

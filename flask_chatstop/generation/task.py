"""The handle of one running generation."""

import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from flask import Flask

from flask_chatstop.backends import EndReason, TaskInfo, TaskRecord
from flask_chatstop.errors import ChatStopError
from flask_chatstop.generation.end import GenerationEnd, tell_app
from flask_chatstop.generation.reader import Reader
from flask_chatstop.generation.streaming import StreamingTask
from flask_chatstop.signals import send, task_ended, task_started
from flask_chatstop.threads import start_thread
from flask_chatstop.upstream.calls import Calls
from flask_chatstop.worker import Worker

T = TypeVar("T")

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
        super().__init__(f"Task {task.id!r} was stopped.")
        self.task = task


class GenerationTask(StreamingTask):
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
        time_limit: float | None = None,
        tracks_calls: bool = True,
        is_inline: bool = False,
    ) -> None:
        self.record = record
        super().__init__(app, Calls(tracks_calls, weakref.ref(self)), is_inline)
        self._worker = worker
        self._time_limit = time_limit
        self._stop_reason = EndReason.STOPPED
        self._started_at = time.monotonic()
        self._pid: int | None = None
        self._is_reported = threading.Event()

    def begin(self) -> None:
        """Make the task known to the store; :meth:`ChatStop.start` has done it.

        :raises TaskExists: its id is taken.
        """
        self._worker.start(self)
        self._pid = os.getpid()
        send(task_started, self._app, task=self)
        if self._time_limit is not None:
            try:
                self._worker.limit(self, self._time_limit)
            except BaseException as error:  # interrupted, or there is no thread left
                self.end(EndReason.FAILED, error)
                raise

    def __del__(self) -> None:
        if sys.is_finalizing():
            return  # modules may be gone, and the exit has ended every task
        # A forked child drops its copies of tasks that its parent goes on running.
        if self._end_reason is None and self._pid == os.getpid():
            self._worker.abandon(self)

    def __repr__(self) -> str:
        state = self._end_reason or ("stopping" if self._stopped else "running")
        return f"<GenerationTask {self.id!r} {state}>"

    @property
    def _is_copy(self) -> bool:
        """Whether this is a forked child's copy of a task that its parent runs."""
        return self._pid not in (None, os.getpid())

    def _stopped_error(self) -> TaskStopped:
        return TaskStopped(self)

    @property
    def id(self) -> str:
        return self.record.task_id

    def stop(self) -> bool:
        """Stop the generation here and now; any thread may call it.

        Wakes the stream's reader. Hanging up and the callbacks of :meth:`on_stop` run
        in threads of their own, so that a slow one delays no other stop.

        :returns: whether the generation was still running. In a forked child, a copy
            of a task that the parent runs is left alone and ``False`` is returned.
        """
        return self._stop(EndReason.STOPPED)

    def time_out(self) -> None:
        """Do what a stop does, since the time limit is over."""
        self._stop(EndReason.TIMED_OUT)

    def _stop(self, reason: EndReason) -> bool:
        if self._is_copy:
            return False
        with self._lock:
            if self._end_reason is not None:
                return False
            # Whoever stops it is told that it was stopped, at its last moment too.
            if not self._stopped or reason is EndReason.STOPPED:
                self._stop_reason = reason
            if self._stopped:
                return True
            self._stopped = True
            self._calls.refuse()
            if self._unwanted is not None:
                self._unwanted.set()
            callbacks, self._on_stop = self._on_stop, []
            source = self._source
        if self._is_inline:
            for callback in callbacks:
                self._call_on_stop(callback)
            return True
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
            self.end(self._stop_reason)

    def _call_soon(self, callback: Callable[[], object]) -> None:
        time.sleep(_AFTER_THE_READER)
        self._call_on_stop(callback)

    def end(self, reason: EndReason | str, error: BaseException | None = None) -> bool:
        """Report how the generation ended; the first report counts.

        Call it from a loop of your own. :meth:`stream` and ``chat_response`` call it
        by themselves. The end of a task that was asked to stop is ``stopped``,
        whatever is reported: the stop may have caused it. The same holds for
        ``timed_out`` once the time limit is over.

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
                reason, error = self._stop_reason, None
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
                try:
                    self._worker.ended(self, reason)
                finally:
                    # Last of all: another thread tells the client of the end then.
                    self._is_reported.set()
        return True

    def info(self) -> TaskInfo:
        """Return what an operator sees of it."""
        age = time.monotonic() - self._started_at
        return TaskInfo(self.record, self._stopped, age)

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
            calls_cut=self._calls.count_cut(),
            error=error,
        )

    def wait_until_reported(self) -> None:
        """Wait until ``on_end`` has been called, if another thread is calling it."""
        if not self._is_copy:
            self._is_reported.wait()

"""The handle of one running generation."""

import os
import sys
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from flask import Flask

from flask_chatstop.backends import EndReason, TaskInfo, TaskRecord
from flask_chatstop.errors import ChatStopError
from flask_chatstop.events.writer import EventWriter
from flask_chatstop.generation.end import GenerationEnd, tell_app
from flask_chatstop.generation.stopping import StoppableTask
from flask_chatstop.logs import get_logger
from flask_chatstop.signals import send, task_ended, task_started
from flask_chatstop.upstream.calls import Calls
from flask_chatstop.worker import Worker

logger = get_logger(__name__)

T = TypeVar("T")


class TaskStopped(ChatStopError):
    """Raised in a view whose generation somebody has stopped.

    A view need not catch it: the blueprint answers it with an event stream that
    holds nothing but the end of a stopped answer.

    :param task: the task that was stopped.
    """

    def __init__(self, task: "GenerationTask") -> None:
        super().__init__(f"Task {task.id!r} was stopped.")
        self.task = task


class GenerationTask(StoppableTask):
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
        make_format: Callable[[], object],
        time_limit: float | None = None,
        tracks_calls: bool = True,
        is_inline: bool = False,
        event_writer: EventWriter | None = None,
    ) -> None:
        self.record = record
        #: Keeps what is sent of the answer, if the app has a log of answers.
        self.event_writer = event_writer
        #: Makes the format of an answer for which no other one is given.
        self.make_format = make_format
        super().__init__(app, Calls(tracks_calls, weakref.ref(self)), is_inline)
        self._worker = worker
        self._time_limit = time_limit
        self._started_at = time.monotonic()
        self._generation_end: GenerationEnd | None = None
        self._when_reported: Callable[[], object] | None = None

    def begin(self) -> None:
        """Make the task known to the store; :meth:`ChatStop.start` calls it.

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

    def _stopped_error(self) -> TaskStopped:
        return TaskStopped(self)

    @property
    def id(self) -> str:
        return self.record.task_id

    @property
    def generation_end(self) -> GenerationEnd | None:
        """How the generation ended, once the app has been told; ``None`` before."""
        return self._generation_end

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
            callbacks, self._on_end = self._on_end, ()
            self._on_stop = ()
            if self._unwanted is not None:
                self._unwanted.set()
        try:
            if not self._stopped:  # after a stop, its thread does it
                self._leave(reason)
        finally:
            try:
                self._tell(self._describe(reason, error), callbacks)
            finally:
                try:
                    self._worker.ended(self, reason)
                finally:
                    # Last of all: another thread tells the client of the end then.
                    self._note_report()
                    self._call_when_reported()
        return True

    def when_reported(self, callback: Callable[[], object]) -> None:
        """Have ``callback()`` called once the app has been told of the end.

        It must be quick: a client may be waiting.
        """
        with self._lock:
            self._when_reported = callback
        if self._is_reported:
            self._call_when_reported()

    def _call_when_reported(self) -> None:
        with self._lock:
            callback, self._when_reported = self._when_reported, None
        try:
            if callback is not None:
                callback()
        except Exception:  # a format may be the app's
            logger.exception("The end of task %r cannot be kept.", self.id)

    def _tell(
        self,
        end: GenerationEnd,
        callbacks: tuple[Callable[[GenerationEnd], object], ...],
    ) -> None:
        is_saved = not callbacks
        try:
            # Without a receiver no app context is made: a client waits.
            if callbacks or task_ended.receivers:
                with self.shield():  # it may be called in the source
                    is_saved = tell_app(self._app, self, end, callbacks)
        finally:
            self._generation_end = end if is_saved else replace(end, saved=False)

    def info(self) -> TaskInfo:
        """Return what ``ChatStop.tasks()`` and ``flask chatstop list`` tell of it."""
        age = time.monotonic() - self._started_at
        return TaskInfo(self.record, self._stopped, age)

    def _leave(self, reason: EndReason) -> None:
        """End the source and its calls; those of a finished source may go on."""
        if reason is EndReason.FINISHED:
            self._calls.finish()
        else:
            self._calls.cut()
        if self._source is not None:
            self._source.close()

    def _describe(
        self, reason: EndReason, error: BaseException | None
    ) -> GenerationEnd:
        answer = self._answer
        text = str(answer.text)
        return GenerationEnd(
            task_id=self.id,
            user=self.record.owner.user,
            reason=reason,
            duration=time.monotonic() - self._started_at,
            calls_cut=self._calls.count_cut(),
            error=error,
            text=text,
            message_id=answer.message_id,
            conversation_id=answer.conversation_id,
            usage=answer.usage(text),
        )

    def wait_until_reported(self) -> None:
        """Wait until ``on_end`` has been called, if another thread is calling it."""
        if not self._is_copy:
            self._wait_for_report()

"""A format whose frames are kept as they are sent."""

import copy
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from flask_chatstop.backends import EndReason
from flask_chatstop.events.answer import LoggedAnswer
from flask_chatstop.events.records import LOST_END, Head, log_id_of
from flask_chatstop.events.writer import EventWriter
from flask_chatstop.formats.base import StreamFormat, as_frame
from flask_chatstop.generation.answer import Answer
from flask_chatstop.generation.end import GenerationEnd
from flask_chatstop.generation.task import GenerationTask
from flask_chatstop.logs import get_logger

logger = get_logger(__name__)


class RecordedFormat(StreamFormat):
    """Another format, whose frames go to the log of answers too.

    The frames are made and kept in one step. So the log has them in the order in which
    the client gets them, and the end is last, whichever thread makes it.

    :param format: has its task.
    :param headers: of the response, besides the content type.
    :param is_saved: whether an answer that was never reported as over counts as saved.
    """

    def __init__(
        self,
        format: StreamFormat,
        writer: EventWriter,
        *,
        heartbeat: float,
        headers: dict[str, str],
        is_saved: bool,
    ) -> None:
        self._format = format
        self.message_id = format.message_id
        self.conversation_id = format.conversation_id
        # Reentrant: the garbage collector may end the task in the thread that holds it.
        self._lock = threading.RLock()
        self._last: bytes | None = None
        self._is_due = False
        format.event_id = "1"
        self._first = as_frame(format.begin())
        self._failed_end = _failed_end(format, is_saved)
        head = Head(
            content_type=format.mimetype,
            headers=headers,
            heartbeat=heartbeat,
            ping=as_frame(format.ping()),
            lost=as_frame(format.lost()),
            failed_end=self._failed_end,
        )
        task = format.task
        log_id = log_id_of(task.id, task.record.owner)
        self._log: LoggedAnswer = writer.open(log_id, head)
        self._keep(self._first)

    def begin(self) -> bytes:
        return self._first

    def chunk(self, chunk: Any) -> bytes:
        frame = b""
        with self._lock:
            if self._last is None:
                frame = as_frame(self._format.chunk(chunk))
                if self._last is None:
                    self._keep(frame)
                else:
                    frame = b""
        if self._is_due:
            self._finish()
        return frame

    def collect(self, chunk: Any, answer: Answer) -> None:
        self._format.collect(chunk, answer)

    def ping(self) -> bytes:
        return self._format.ping()

    def lost(self) -> bytes:
        return self._format.lost()

    def end(self, end: GenerationEnd) -> bytes:
        with self._lock:
            if self._last is None:
                self._last = b""  # whatever fails, the answer is over
                try:
                    self._last = as_frame(self._format.end(end))
                finally:
                    self._log.finish(self._last)
            return self._last

    def sent(self) -> None:
        """Note that the client has got all that it gets, or has left."""
        self._log.sent()

    def finisher(self) -> Callable[[], None]:
        """Return what keeps the end, if the thread that sends the answer does not.

        That thread waits for its client, which may have stalled.
        """
        # The task holds it, and must not hold itself by way of the format: a task that
        # nobody holds any more ends.
        return partial(_finish, weakref.ref(self), self._log, self._failed_end)

    def finish(self) -> None:
        """Keep the end; if a thread is making a frame, it does so afterwards."""
        self._is_due = True
        self._finish()

    def _finish(self) -> None:
        end = self._format.task.generation_end
        if end is not None and self._lock.acquire(blocking=False):
            try:
                self.end(end)
            finally:
                self._lock.release()

    def _keep(self, frame: bytes) -> None:
        if frame:
            self._log.append(frame)
            self._format.event_id = str(self._log.count + 1)


def _finish(
    reference: "weakref.ref[RecordedFormat]", log: LoggedAnswer, failed_end: bytes
) -> None:
    recorded = reference()
    if recorded is not None:
        recorded.finish()
    elif not log.is_over:
        log.finish(failed_end)


def _failed_end(format: StreamFormat, is_saved: bool) -> bytes:
    """Return the end of an answer whose worker is gone."""
    task = format.task
    # A format may count what it ends.
    format = copy.copy(format)
    format.event_id = LOST_END
    end = GenerationEnd(
        task_id=task.id,
        user=task.record.owner.user,
        reason=EndReason.FAILED,
        duration=0.0,
        message_id=format.message_id,
        conversation_id=format.conversation_id,
        saved=is_saved,
    )
    return as_frame(format.end(end))


def record(
    format: StreamFormat,
    task: GenerationTask,
    heartbeat: float,
    headers: dict[str, str],
) -> StreamFormat:
    """Return the format, kept in the log of answers if the app has one."""
    if task.event_writer is None:
        return format
    try:
        recorded = RecordedFormat(
            format,
            task.event_writer,
            heartbeat=heartbeat,
            headers=headers,
            is_saved=not task.has_on_end,
        )
    except Exception:  # a format may be the app's
        logger.exception("The answer of task %r cannot be kept.", task.id)
        format.event_id = None
        return format
    task.when_reported(recorded.finisher())
    return recorded

"""The thread of a worker that writes its answers to the log."""

import logging
import queue
import threading
import time

from flask_chatstop.errors import RecordRefused
from flask_chatstop.events.answer import LoggedAnswer
from flask_chatstop.events.arrivals import Arrivals
from flask_chatstop.events.base import EventLog
from flask_chatstop.events.records import Head
from flask_chatstop.logs import log
from flask_chatstop.worker.availability import Availability
from flask_chatstop.worker.loops import Loops
from flask_chatstop.worker.processes import closed_last
from flask_chatstop.worker.waiting import wait_while

logger = logging.getLogger(__name__)

#: Seconds between two calls that add frames.
_BATCH = 0.05
#: Seconds without an answer, after which the thread ends.
_IDLE = 10.0
#: Seconds between two purges, and of one.
_PURGE_INTERVAL, _PURGE = 60.0, 0.5
#: Answers that one call adds to.
_LOGS = 200
#: Bytes of all answers that wait in memory while the store is away.
_MEMORY = 64 * 1024 * 1024


class EventWriter:
    """Writes the answers of one worker to the log, in batches.

    Its daemon thread begins with the first answer and ends a while after the last one.
    """

    name = "event_writer"

    def __init__(self, events: EventLog) -> None:
        self.events = events
        self._begin()
        closed_last.add(self)

    def _begin(self) -> None:
        self.arrivals = Arrivals()
        # The garbage collector may end a task, and so put something, in a thread that
        # holds a lock. SimpleQueue is the only queue that allows it.
        self._inbox: queue.SimpleQueue[LoggedAnswer | None] = queue.SimpleQueue()
        self._running: dict[str, LoggedAnswer] = {}
        # What is to be written, in the order in which it was put.
        self._due: dict[LoggedAnswer, None] = {}
        self._store = Availability("the log of answers")
        self._loops = Loops(self, begun=_do_nothing, replaced=_do_nothing)
        self._exiting = threading.Event()
        self._written_at = self._renewed_at = self._purged_at = time.monotonic()

    def after_fork(self) -> None:
        """Begin anew in a forked child: the answers and the thread are the parent's."""
        self._begin()
        self.events.after_fork()

    def open(self, log_id: str, head: Head) -> LoggedAnswer:
        """Begin the log of an answer; return at once."""
        if not isinstance(self._inbox, queue.SimpleQueue):
            self._begin()  # gevent has patched threads since: gunicorn that preloads
        answer = LoggedAnswer(self, log_id, head.packed(), self.events.max_bytes)
        self._running[log_id] = answer
        self.arrivals.written_here(log_id)
        self.wake(answer)
        self._loops.try_to_begin()
        return answer

    def wake(self, answer: LoggedAnswer) -> None:
        """Have an answer written soon, or at once if it is over."""
        self._inbox.put(answer)

    def flush(self, seconds: float) -> bool:
        """Wait so many seconds until all answers that are over are written."""
        return wait_while(self._has_ends, seconds)

    def close(self) -> None:
        """Write what there is, and let the thread end."""
        if self._running or self._due:
            self._loops.try_to_begin()
        closing = self._loops.closing
        if closing is not None:
            self._exiting.set()
            self._store.retry.set()
            self._inbox.put(None)
            closing.wait(2 * self.events.timeout)
        self.events.close()

    def turn(self, closing: threading.Event) -> None:
        """Wait until there is something to write, and write it."""
        if not self._store.is_up:
            self._pause()
        elif not self._receive() and self._loops.end_if(self._is_idle):
            if not self._inbox.empty():
                self._loops.try_to_begin()  # put by the garbage collector meanwhile
            return
        self._write()
        self._renew()
        self._store.found()
        self._purge()

    def failed(self, error: BaseException) -> None:
        """Note that the store is away; nobody but followers waits for it."""
        self._store.lost(error)

    def _pause(self) -> None:
        pause = self._store.backoff()
        self._store.retry.wait(min(pause, 0.1) if self._exiting.is_set() else pause)
        self._store.retry.clear()
        self._drain()
        self._make_room()

    def _make_room(self) -> None:
        """Leave out frames of the oldest answers if all of them take too much."""
        size = sum(answer.waiting_bytes for answer in self._due)
        for answer in list(self._due):
            if size <= _MEMORY:
                return
            size -= answer.waiting_bytes
            answer.take()
            answer.leave_out()
            if answer.is_over:
                self._wrote(answer)

    def _receive(self) -> bool:
        """Wait for something to write, then a moment for more; tell if it has come."""
        wait = self._renewed_at + self._renewal - time.monotonic()
        if self._exiting.is_set():
            wait = 0.01
        try:
            answer = self._inbox.get(timeout=max(0.0, min(wait, _IDLE)))
            while True:
                if answer is not None:
                    self._due[answer] = None
                left = self._written_at + _BATCH - time.monotonic()
                # Somebody may come for an answer as soon as it has begun.
                if answer is None or answer.is_urgent or left <= 0:
                    break
                answer = self._inbox.get(timeout=left)
        except queue.Empty:
            pass
        self._drain()
        return bool(self._due)

    def _is_idle(self) -> bool:
        return not self._running and not self._due and self._inbox.empty()

    def _has_ends(self) -> bool:
        return any(answer.is_over for answer in list(self._running.values()))

    def _drain(self) -> None:
        try:
            while True:
                answer = self._inbox.get_nowait()
                if answer is not None:
                    self._due[answer] = None
        except queue.Empty:
            return

    def _write(self) -> None:
        self._written_at = time.monotonic()
        while answers := list(self._due)[:_LOGS]:
            try:
                self._write_some(answers)
            except RecordRefused:
                for answer in answers:
                    self._write_one(answer)

    def _write_some(self, answers: list[LoggedAnswer]) -> None:
        batches = {answer.log_id: answer.take() for answer in answers}
        batches = {log_id: records for log_id, records in batches.items() if records}
        lost = self.events.append(batches) if batches else set()
        for answer in answers:
            if answer.log_id in lost:
                answer.begin_again()
                message = "The log of answers has lost %s, which begins anew."
                log(logger, logging.WARNING, message, answer.log_id)
            else:
                self._wrote(answer)

    def _write_one(self, answer: LoggedAnswer) -> None:
        try:
            self._write_some([answer])
        except RecordRefused as error:
            message = "The log of answers refuses a part of %s: %s"
            log(logger, logging.WARNING, message, answer.log_id, error)
            answer.leave_out()
            try:
                self._write_some([answer])
            except RecordRefused:
                self._wrote(answer)

    def _wrote(self, answer: LoggedAnswer) -> None:
        number = answer.written()
        self._due.pop(answer, None)
        is_over = answer.is_written
        if is_over and self._running.get(answer.log_id) is answer:
            del self._running[answer.log_id]
        self.arrivals.tell(answer.log_id, number, is_over=is_over)

    @property
    def _renewal(self) -> float:
        """Seconds between two renewals."""
        return self.events.retention / 3

    def _renew(self) -> None:
        if time.monotonic() - self._renewed_at >= self._renewal:
            self._renewed_at = time.monotonic()
            if running := list(self._running):
                self.events.renew(running)

    def _purge(self) -> None:
        now = time.monotonic()
        if now - self._purged_at >= _PURGE_INTERVAL and not self._exiting.is_set():
            self._purged_at = now
            while self.events.purge() and time.monotonic() - now < _PURGE:
                pass


def _do_nothing() -> None:
    """Stand in for what needs no notice."""

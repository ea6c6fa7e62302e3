"""The thread of a worker that writes its answers to the log."""

import threading
import time

from flask_chatstop.errors import RecordRefused
from flask_chatstop.events.answer import LoggedAnswer
from flask_chatstop.events.arrivals import Arrivals
from flask_chatstop.events.base import EventLog
from flask_chatstop.events.due import DueAnswers
from flask_chatstop.events.records import Head
from flask_chatstop.logs import get_logger
from flask_chatstop.worker.availability import Availability
from flask_chatstop.worker.loops import Loops
from flask_chatstop.worker.processes import closed_last
from flask_chatstop.worker.waiting import wait_while

logger = get_logger(__name__)

#: Seconds without an answer, after which the thread ends.
_IDLE = 10.0
#: Seconds between two purges, and of one.
_PURGE_INTERVAL, _PURGE = 60.0, 0.5


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
        self._running: dict[str, LoggedAnswer] = {}
        self._due = DueAnswers()
        self._store = Availability("the log of answers")
        self._loops = Loops(self, begun=_do_nothing, replaced=_do_nothing)
        self._exiting = threading.Event()
        self._renewed_at = self._purged_at = time.monotonic()

    def after_fork(self) -> None:
        """Begin anew in a forked child: the answers and the thread are the parent's."""
        self._begin()
        self.events.after_fork()

    def open(self, log_id: str, head: Head) -> LoggedAnswer:
        """Begin the log of an answer; return at once."""
        if self._due.is_outdated:
            self._begin()  # gunicorn has preloaded the app before gevent patched
        answer = LoggedAnswer(self, log_id, head.packed(), self.events.max_bytes)
        self._running[log_id] = answer
        self.arrivals.written_here(log_id)
        self.wake(answer)
        self._loops.try_to_begin()
        return answer

    def wake(self, answer: LoggedAnswer) -> None:
        """Have an answer written soon, or at once if it is over."""
        self._due.put(answer)

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
            self._due.wake()
            closing.wait(2 * self.events.timeout)
        self.events.close()

    def turn(self, closing: threading.Event) -> None:
        """Wait until there is something to write, and write it."""
        if not self._store.is_up:
            self._pause()
        elif not self._receive() and self._loops.end_if(self._is_idle):
            if not self._due.is_idle:
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
        self._due.drain()
        self._make_room()

    def _make_room(self) -> None:
        """Leave out frames of the oldest answers if all of them take too much."""
        for answer in self._due.beyond_memory():
            answer.leave_out()
            answer.take()
            if answer.is_over:
                self._wrote(answer)

    def _receive(self) -> bool:
        """Wait for something to write, and tell if it has come."""
        wait = self._renewed_at + self._renewal - time.monotonic()
        if self._exiting.is_set():
            wait = 0.01
        return self._due.receive(max(0.0, min(wait, _IDLE)))

    def _is_idle(self) -> bool:
        return not self._running and self._due.is_idle

    def _has_ends(self) -> bool:
        return any(answer.is_over for answer in list(self._running.values()))

    def _write(self) -> None:
        for answers in self._due.batches():
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
                logger.warning(message, answer.log_id)
            else:
                self._wrote(answer)

    def _write_one(self, answer: LoggedAnswer) -> None:
        try:
            self._write_some([answer])
        except RecordRefused as error:
            message = "The log of answers refuses a part of %s: %s"
            logger.warning(message, answer.log_id, error)
            answer.leave_out()
            try:
                self._write_some([answer])
            except RecordRefused:
                self._wrote(answer)

    def _wrote(self, answer: LoggedAnswer) -> None:
        number = answer.written()
        if not answer.has_more:
            self._due.drop(answer)
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

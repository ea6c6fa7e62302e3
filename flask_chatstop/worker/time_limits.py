"""The thread that ends the tasks of a worker whose time limit is over."""

import heapq
import itertools
import queue
import threading
import time
import weakref
from typing import Protocol

from flask_chatstop.backends import TaskRecord
from flask_chatstop.logs import get_logger
from flask_chatstop.worker.loops import Loops

logger = get_logger(__name__)

#: Seconds without a task that has a limit, after which the thread ends.
_IDLE = 10.0
#: Limits of ended tasks that may be kept beside those of running ones.
_SLACK = 1000


class LimitedTask(Protocol):
    """A task that has a time limit."""

    @property
    def record(self) -> TaskRecord: ...

    def time_out(self) -> None: ...


#: When it is over, a number that orders equal times, and the task with its id.
_Limit = tuple[float, int, str, "weakref.ref[LimitedTask]"]


class TimeLimits:
    """The time limits of one worker, watched by one daemon thread.

    Tasks are held weakly. The thread begins with the first limit and ends a while
    after the last one.
    """

    name = "time_limits"

    def __init__(self) -> None:
        self._loops = Loops(self, begun=_do_nothing, replaced=_do_nothing)
        self._numbers = itertools.count()
        # The tasks that still run. Neither add() nor forget() takes a lock: the garbage
        # collector may end a task in a thread that holds one.
        self._running: dict[str, _Limit] = {}
        self._new: queue.SimpleQueue[_Limit | None] = queue.SimpleQueue()
        # Only the thread touches it. The limit of an ended task stays until its turn.
        self._heap: list[_Limit] = []

    def add(self, task: LimitedTask, seconds: float) -> None:
        """End a task so many seconds from now, unless it has ended before.

        :raises RuntimeError: there are too many threads.
        """
        until = time.monotonic() + seconds
        task_id = task.record.task_id
        limit = (until, next(self._numbers), task_id, weakref.ref(task))
        self._running[task_id] = limit
        self._new.put(limit)
        self._loops.begin()

    def forget(self, task_id: str) -> None:
        """Forget the limit of a task that has ended."""
        self._running.pop(task_id, None)

    def close(self) -> None:
        """Let the thread end."""
        self._loops.end_if(lambda: True)
        self._new.put(None)

    def turn(self, closing: threading.Event) -> None:
        """Wait for the next moment, and end what is due."""
        if not self._receive():
            self._loops.end_if(self._is_idle)
        while self._heap and self._heap[0][0] <= time.monotonic():
            # Taken off afterwards: what hits the thread here must not lose a limit.
            self._end(self._heap[0])
            heapq.heappop(self._heap)
        if len(self._heap) > 2 * len(self._running) + _SLACK:
            self._heap = [limit for limit in self._heap if self._is_running(limit)]
            heapq.heapify(self._heap)

    def failed(self, error: BaseException) -> None:
        """Log what has hit the thread, which goes on."""
        message = "The thread of the time limits goes on after %r."
        logger.error(message, error)

    def _receive(self) -> bool:
        """Take new limits until the next one is over, and tell whether any came."""
        wait = _IDLE
        if self._heap:
            wait = min(wait, max(0.0, self._heap[0][0] - time.monotonic()))
        try:
            limit = self._new.get(timeout=wait)
        except queue.Empty:
            return False
        if limit is not None:
            heapq.heappush(self._heap, limit)
        return True

    def _is_idle(self) -> bool:
        return not self._running and self._new.empty()

    def _is_running(self, limit: _Limit) -> bool:
        return self._running.get(limit[2]) is limit

    def _end(self, limit: _Limit) -> None:
        *_, task_id, reference = limit
        if not self._is_running(limit):
            return
        try:
            if task := reference():
                task.time_out()
        except Exception as error:  # it must not harm the others
            message = "The time limit of task %r failed."
            logger.error(message, task_id, exc_info=error)
        self.forget(task_id)


def _do_nothing() -> None:
    """Stand in for what needs no notice."""

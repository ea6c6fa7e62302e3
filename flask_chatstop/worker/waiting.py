"""Stops that wait for the end of their task."""

import threading
import time
from collections.abc import Callable

from flask_chatstop.backends import StopOutcome
from flask_chatstop.errors import BackendError

#: Stops of clients that may wait at once in a worker. Each holds a server's thread.
MAX_WAITING = 8

#: Seconds between two looks.
_PAUSE = 0.05


class WaitingStops:
    """The stops of one worker that wait, of which there are few."""

    def __init__(self) -> None:
        self._places = threading.BoundedSemaphore(MAX_WAITING)

    def wait(
        self,
        seconds: float,
        *,
        is_open: Callable[[], bool],
        stop: Callable[[], StopOutcome],
        is_limited: bool = True,
    ) -> StopOutcome:
        """Wait so many seconds for the end of a task that is stopping.

        A failure of the store ends the wait.

        :param is_open: tells whether the end is still to come, and changes nothing.
        :param stop: stops the task once more, to learn how it has ended.
        :param is_limited: whether it returns at once if :data:`MAX_WAITING` stops wait
            already: clients must not hold every thread of the server.
        :returns: ``STOPPING`` if the end has not come, ``MISSING`` if the store has
            lost the task.
        """
        places = self._places
        if is_limited and not places.acquire(blocking=False):
            return StopOutcome.STOPPING
        try:
            return _wait(seconds, is_open, stop)
        except BackendError:  # the stop has been taken before
            return StopOutcome.STOPPING
        finally:
            if is_limited:
                places.release()


def wait_while(is_waited_for: Callable[[], bool], seconds: float) -> bool:
    """Wait while something is true, and tell whether it has become false in time."""
    deadline = time.monotonic() + seconds
    while is_waited_for():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_PAUSE / 5)
    return True


def _wait(
    seconds: float, is_open: Callable[[], bool], stop: Callable[[], StopOutcome]
) -> StopOutcome:
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(_PAUSE, left))
        if not is_open() and (found := stop()) is not StopOutcome.STOPPING:
            return found
    return StopOutcome.STOPPING

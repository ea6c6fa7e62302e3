"""Stops that wait for the end of their task."""

import threading
import time
from collections.abc import Callable

from flask_chatstop.backends import StopOutcome
from flask_chatstop.errors import BackendError

#: Stops that may wait at once in one worker. Each holds a thread of the server.
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
    ) -> StopOutcome:
        """Wait so many seconds for the end of a task that is stopping.

        Returns at once if :data:`MAX_WAITING` stops wait already: they must not hold
        every thread of the server. A failure of the store ends the wait.

        :param is_open: tells whether the end is still to come, and changes nothing.
        :param stop: stops the task once more, to learn how it has ended.
        :returns: ``STOPPING`` if the end has not come, ``MISSING`` if the store has
            lost the task.
        """
        places = self._places
        if not places.acquire(blocking=False):
            return StopOutcome.STOPPING
        try:
            deadline = time.monotonic() + seconds
            while (left := deadline - time.monotonic()) > 0:
                time.sleep(min(_PAUSE, left))
                if not is_open() and (found := stop()) is not StopOutcome.STOPPING:
                    return found
        except BackendError:  # the stop has been taken before
            pass
        finally:
            places.release()
        return StopOutcome.STOPPING

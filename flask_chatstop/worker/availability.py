"""Whether the store is reachable, and when to try again."""

import random
import threading
import time

from flask_chatstop.errors import BackendError
from flask_chatstop.logs import get_logger

logger = get_logger(__name__)

# An app may seed the random module and expect its numbers in order.
_random = random.SystemRandom()

_LONGEST_PAUSE = 5.0
#: Seconds after which what was found counts as well: the next pause is short again.
_WELL_AFTER = 2 * _LONGEST_PAUSE


class Availability:
    """Whether something is reachable; logs when it is lost and when it is back.

    It is lost with the first failure, and found with a success of whoever tries it
    again. What is soon lost again is tried after ever longer pauses, as if it had not
    been found.

    :param name: what is reachable, for the log.
    """

    def __init__(self, name: str) -> None:
        self.is_up = True
        #: Set it to end the pause before the next try.
        self.retry = threading.Event()
        self._name = name
        self._attempts = 0
        self._found_at = -_WELL_AFTER
        # Reentrant: the garbage collector may run an app's code in the thread that
        # holds it.
        self._lock = threading.RLock()

    def lost(self, error: BaseException) -> None:
        """Note that a try has failed."""
        with self._lock:
            if not self.is_up:
                return
            self._forget_old_attempts()
            self.is_up = False
        if isinstance(error, BackendError):
            logger.warning("Lost %s, trying again: %s", self._name, error)
        else:
            message = "Lost %s, trying again: unexpected %s"
            kind = type(error).__name__
            logger.error(message, self._name, kind, exc_info=error)

    def found(self) -> bool:
        """Note that a try has succeeded, and tell whether it was lost before."""
        with self._lock:
            if self.is_up:
                return False
            self.is_up = True
            self._found_at = time.monotonic()
        logger.warning("Found %s again.", self._name)
        return True

    def backoff(self) -> float:
        """Return the seconds to wait before the next try: 0.1 to 5, with jitter."""
        with self._lock:
            if self.is_up:
                self._forget_old_attempts()
            self._attempts = min(self._attempts + 1, 10)
            longest: float = min(_LONGEST_PAUSE, 0.1 * 2**self._attempts)
        return longest * _random.uniform(0.5, 1.0)

    def _forget_old_attempts(self) -> None:
        if time.monotonic() - self._found_at >= _WELL_AFTER:
            self._attempts = 0

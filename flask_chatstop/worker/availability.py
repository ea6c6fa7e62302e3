"""Whether the store is reachable, and when to try again."""

import logging
import random
import threading

from flask_chatstop.errors import BackendError

logger = logging.getLogger(__name__)

# An app may seed the random module and expect its numbers in order.
_random = random.SystemRandom()


class Availability:
    """Whether something is reachable; logs when it is lost and when it is back.

    Threads share it without a lock. At worst a change is logged twice.

    :param name: what is reachable, for the log.
    """

    def __init__(self, name: str) -> None:
        self.is_up = True
        #: Set it to end the pause before the next try.
        self.retry = threading.Event()
        self._name = name
        self._attempts = 0

    def lost(self, error: BackendError) -> None:
        """Note that a try has failed."""
        if self.is_up:
            self.is_up = False
            logger.warning("Lost %s, trying again: %s", self._name, error)

    def found(self) -> bool:
        """Note that a try has succeeded, and tell whether it was lost before."""
        self._attempts = 0
        if self.is_up:
            return False
        self.is_up = True
        logger.warning("Found %s again.", self._name)
        return True

    def backoff(self) -> float:
        """Return the seconds to wait before the next try: 0.1 to 5, with jitter."""
        self._attempts = min(self._attempts + 1, 10)
        longest: float = min(5.0, 0.1 * 2**self._attempts)
        return longest * _random.uniform(0.5, 1.0)

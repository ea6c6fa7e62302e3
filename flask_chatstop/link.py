"""Whether something is reachable, and when to try again."""

import logging
import random
import threading

from flask_chatstop.errors import BackendError

logger = logging.getLogger(__name__)

# The state of the random module is the app's.
_random = random.SystemRandom()


class Link:
    """Whether something is reachable: logged when it goes and when it is back.

    Threads share it without a lock: at worst one of them is logged twice.
    """

    def __init__(self, name: str) -> None:
        self.is_up = True
        #: Set to end the pause before the next try, since the other link is back.
        self.retry = threading.Event()
        self._name = name
        self._attempts = 0

    def lost(self, error: BackendError) -> None:
        if self.is_up:
            self.is_up = False
            logger.warning("Lost %s, trying again: %s", self._name, error)

    def found(self) -> bool:
        self._attempts = 0
        if self.is_up:
            return False
        self.is_up = True
        logger.warning("Found %s again.", self._name)
        return True

    def backoff(self) -> float:
        """Give the seconds to wait before the next try: 0.1 to 5, with jitter."""
        self._attempts = min(self._attempts + 1, 10)
        longest: float = min(5.0, 0.1 * 2**self._attempts)
        return longest * _random.uniform(0.5, 1.0)

"""Whose turn it is to have a connection."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from flask_chatstop.errors import BackendError


class FairSemaphore:
    """Let so many threads at once go on, the others in the order they came.

    SQLAlchemy's pool gives a connection to whoever happens to ask, so that a thread
    which asks again and again can keep another from ever getting one.
    """

    def __init__(self, places: int) -> None:
        self.places = self._free = places
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()

    @contextmanager
    def taken(self, deadline: float) -> Iterator[None]:
        """Have a place for a while.

        :raises BackendError: none got free before the deadline.
        """
        self.take(deadline)
        try:
            yield
        finally:
            self.give()

    def give(self) -> None:
        """Give a place to the one who has waited longest."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1

    def _leave(self, called: threading.Event) -> None:
        with self._lock:
            waits = called in self._waiting
            if waits:
                self._waiting.remove(called)
        if not waits:
            self.give()

    def take(self, deadline: float) -> None:
        """Have a place until it is given back.

        :raises BackendError: none got free before the deadline.
        """
        with self._lock:
            if self._free:
                self._free -= 1
                return
            called = threading.Event()
            self._waiting.append(called)
        try:
            if called.wait(max(0.0, deadline - time.monotonic())):
                return
        except BaseException:  # a signal's, or gevent.Timeout: pass the place on
            self._leave(called)
            raise
        with self._lock:
            if called.is_set():
                return
            self._waiting.remove(called)
        raise BackendError("No connection to the database got free in time.")

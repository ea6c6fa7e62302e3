"""A semaphore that serves threads in the order in which they came."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from flask_chatstop.errors import BackendError


class FairSemaphore:
    """Let a number of threads in at once; the others wait in the order they came.

    The pool of SQLAlchemy gives a connection to whichever thread asks next. A thread
    that asks again and again can keep another one from ever getting a connection.
    """

    def __init__(self, places: int) -> None:
        self.places = self._free = places
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()

    @contextmanager
    def taken(self, deadline: float) -> Iterator[None]:
        """Take a place for the length of the block.

        :raises BackendError: no place got free before the deadline.
        """
        self.take(deadline)
        try:
            yield
        finally:
            self.give()

    def take(self, deadline: float) -> None:
        """Take a place, until :meth:`give` is called.

        :raises BackendError: no place got free before the deadline.
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
        except BaseException:  # of a signal, or gevent.Timeout: pass the place on
            self._leave(called)
            raise
        with self._lock:
            if called.is_set():
                return
            self._waiting.remove(called)
        raise BackendError("No connection to the database got free in time.")

    def give(self) -> None:
        """Give a place back, to the thread that has waited longest."""
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

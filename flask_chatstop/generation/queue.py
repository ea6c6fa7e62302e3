"""The queue between the thread that reads a source and the reader of a stream."""

import contextlib
import queue
import threading
from typing import Generic, TypeVar

T = TypeVar("T")

#: Chunks that may wait for a slow reader before the source has to wait.
QUEUE_SIZE = 32


class ChunkQueue(Generic[T]):
    """A bounded queue of one source and one reader.

    Made of two locks, each held while its side may have to wait, and the second one
    made when the source has to. Under gevent a ``SimpleQueue`` takes 3 KiB, which
    10,000 silent streams would pay 10,000 times.
    """

    __slots__ = ("_is_empty", "_is_full", "_is_unbounded", "_items", "_waits_for_space")

    def __init__(self) -> None:
        self._items: list[T] = []
        self._is_empty = _held_lock()
        self._is_full: threading.Lock | None = None
        self._waits_for_space = self._is_unbounded = False

    def put(self, item: T) -> None:
        """Add an item; never waits, and any thread may call it."""
        self._items.append(item)
        _release(self._is_empty)

    def wait_for_space(self) -> None:
        """Wait while it is full, until the reader has taken half."""
        if len(self._items) < QUEUE_SIZE:
            return
        if self._is_full is None:
            self._is_full = _held_lock()
        # Set before the next look, or a reader that takes the last item above half
        # now would wake nobody.
        self._waits_for_space = True
        while len(self._items) >= QUEUE_SIZE and not self._is_unbounded:
            self._is_full.acquire()
        self._waits_for_space = False

    def get(self, timeout: float | None = None) -> T:
        """Take the next item.

        :raises queue.Empty: there was none for so many seconds.
        """
        while not self._items:
            # An item that was put and taken meanwhile may have left the lock open.
            if not self._is_empty.acquire(timeout=-1 if timeout is None else timeout):
                raise queue.Empty
        item = self._items.pop(0)
        if self._waits_for_space and len(self._items) <= QUEUE_SIZE // 2:
            self._tell_space()
        return item

    def unbind(self) -> None:
        """Never let the source wait again."""
        self._is_unbounded = True
        self._tell_space()

    def _tell_space(self) -> None:
        if self._is_full is not None:
            _release(self._is_full)


def _held_lock() -> threading.Lock:
    # Looked up here and not imported by name: gevent may patch it after our import.
    lock = threading.Lock()
    lock.acquire()
    return lock


def _release(lock: threading.Lock) -> None:
    if lock.locked():
        with contextlib.suppress(RuntimeError):  # another thread was faster
            lock.release()

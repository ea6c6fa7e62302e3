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

    Made of two locks, each held while its side may have to wait. Under gevent a
    ``SimpleQueue`` takes 3 KiB, which 10,000 silent streams would pay 10,000 times.
    """

    def __init__(self) -> None:
        self._items: list[T] = []
        # Looked up here and not imported by name: gevent may patch it after our import.
        self._is_empty, self._is_full = threading.Lock(), threading.Lock()
        self._is_empty.acquire()
        self._is_full.acquire()
        self._waits_for_space = self._is_unbounded = False

    def put(self, item: T) -> None:
        """Add an item; never waits, and any thread may call it."""
        self._items.append(item)
        _release(self._is_empty)

    def wait_for_space(self) -> None:
        """Wait while it is full, until the reader has taken half."""
        if len(self._items) < QUEUE_SIZE:
            return
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
        _release(self._is_full)


def _release(lock: threading.Lock) -> None:
    if lock.locked():
        with contextlib.suppress(RuntimeError):  # another thread was faster
            lock.release()

"""What the followers of one process share: only one of them waits at the store."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Tail:
    """The end of one log, as the followers of this process know it."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        #: The highest number that is known to be there.
        self.number = -1
        self.followers = 0
        #: Whether a worker of this process writes the log, and tells of each record.
        self.is_ours = False
        self.has_waiter = False

    def tell(self, number: int) -> None:
        """Wake everybody who waits for a record that is there now."""
        with self.changed:
            self.number = max(self.number, number)
            self.changed.notify_all()

    def wait(
        self,
        after: int,
        timeout: float,
        at_store: Callable[[float], None],
        *,
        is_at_end: bool,
    ) -> None:
        """Wait until there may be a record with a number above ``after``.

        :param at_store: waits at the store for so many seconds.
        :param is_at_end: whether the log has no record after the next one that this
            follower waits for. One of those waits at the store for all of them.
        """
        with self.changed:
            if self.number > after:
                return
            if self.is_ours or (is_at_end and self.has_waiter):
                self.changed.wait(timeout)
                return
            self.has_waiter = self.has_waiter or is_at_end
        try:
            at_store(timeout)
        finally:
            if is_at_end:
                with self.changed:
                    self.has_waiter = False
                    # Another one takes over, or finds the record.
                    self.changed.notify_all()


class Arrivals:
    """The tails of the logs that are written or followed in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tails: dict[str, Tail] = {}

    @contextmanager
    def following(self, log_id: str) -> Iterator[Tail]:
        """Count a follower for the length of the block."""
        with self._lock:
            tail = self._tails.setdefault(log_id, Tail())
            tail.followers += 1
        try:
            yield tail
        finally:
            with self._lock:
                tail.followers -= 1
                self._drop_unused(log_id, tail)

    def written_here(self, log_id: str) -> None:
        """Note that a worker of this process writes a log."""
        with self._lock:
            self._tails.setdefault(log_id, Tail()).is_ours = True

    def tell(self, log_id: str, number: int, *, is_over: bool = False) -> None:
        """Note that a log has a record with this number, which may be its last."""
        with self._lock:
            tail = self._tails.get(log_id)
            if tail is not None and is_over:
                tail.is_ours = False
                self._drop_unused(log_id, tail)
        if tail is not None:
            tail.tell(number)

    def is_ours(self, log_id: str) -> bool:
        """Tell whether a worker of this process writes a log."""
        tail = self._tails.get(log_id)
        return tail is not None and tail.is_ours

    def _drop_unused(self, log_id: str, tail: Tail) -> None:
        if not tail.followers and not tail.is_ours:
            self._tails.pop(log_id, None)

"""What the followers of one process share: only one of them waits at the store."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flask_chatstop.events.base import Page

#: Seconds that a follower waits for another one that reads, most likely the same.
_WHILE_READ = 0.2


class Tail:
    """The end of one log, as the followers of this process know it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        #: The highest number that is known to be there.
        self._number = -1
        # The last page that was read, and after which position.
        self._page: tuple[int, Page] | None = None
        self._is_being_read = self._has_waiter = False
        self.followers = 0
        #: Whether a worker of this process writes the log, and tells of each record.
        self.is_ours = False

    def tell(self, number: int) -> None:
        """Wake everybody who waits for a record that is there now."""
        with self._changed:
            self._number = max(self._number, number)
            self._changed.notify_all()

    def wait(
        self,
        after: int,
        timeout: float,
        at_store: Callable[[float], object],
        *,
        is_at_end: bool,
    ) -> bool:
        """Wait for a record with a number above ``after``; tell if there may be one.

        :param at_store: waits at the store for so many seconds, then reads.
        :param is_at_end: whether the log has no record after the next one that this
            follower waits for. One of those waits at the store for all of them.
        """
        with self._changed:
            if self._number > after:
                return True
            if self.is_ours or (is_at_end and self._has_waiter):
                self._changed.wait(timeout)
                return self._number > after
            self._has_waiter = self._has_waiter or is_at_end
        try:
            at_store(timeout)
        finally:
            if is_at_end:
                with self._changed:
                    self._has_waiter = False
                    self._changed.notify_all()  # another one takes over
        return True

    def read(self, after: int, at_store: Callable[[], Page | None]) -> Page | None:
        """Return the next page; followers that are at one position share it."""
        with self._changed:
            if self._is_being_read and not self._has_page(after):
                self._changed.wait(_WHILE_READ)
            if self._page is not None and self._has_page(after):
                return self._page[1]
            self._is_being_read = True
        page = None
        try:
            page = at_store()
        finally:
            with self._changed:
                self._is_being_read = False
                if page is not None and page.records:
                    self._page = after, page
                    self._number = max(self._number, page.records[-1].number)
                self._changed.notify_all()
        return page

    def _has_page(self, after: int) -> bool:
        return self._page is not None and self._page[0] == after


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

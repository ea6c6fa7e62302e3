"""What is sent to one client that has come back to an answer."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial

from flask_chatstop.bodies import StreamedBody
from flask_chatstop.errors import BackendError
from flask_chatstop.events.arrivals import Tail
from flask_chatstop.events.base import EventLog, Page
from flask_chatstop.events.records import END, Head, Record, unpack
from flask_chatstop.events.writer import EventWriter

#: Seconds between two looks whether the task still runs, while nothing comes.
_LOOK = 5.0
#: Seconds after the end of a lease, before the store is asked whether it was renewed.
_AFTER_LEASE = 0.1
#: Seconds after a failure of the log, before it is read again.
_AFTER_FAILURE = 0.5
#: Seconds before the next read of a log that has nothing where something was.
_AFTER_NOTHING = 0.02


class Lost(Exception):
    """A part of the answer is missing, in a format that cannot say so.

    It is raised into the server, which cuts the connection: the client must not take
    what it has for the whole answer.
    """


class Follower(StreamedBody):
    """Sends an answer from a position on until it is over, then ends.

    It reads the log, and so costs the answer nothing, however slow its client is.

    :param page: the first page after the position.
    :param position: the number of the last frame that the client has.
    :param lease_left: tells for how many seconds the store of tasks knows the task as
        running, without another renewal; ``None`` if it does not.
    :param lease: seconds that a renewal is good for.
    """

    def __init__(
        self,
        writer: EventWriter,
        log_id: str,
        page: Page,
        position: int,
        *,
        lease_left: Callable[[], float | None],
        lease: float,
    ) -> None:
        self._events: EventLog = writer.events
        self._log_id = log_id
        self._packed_head = page.head
        self._head = Head.unpacked(page.head)
        self._page: Page | None = page
        self._position = position
        self._lease_left = lease_left
        self._look = min(_LOOK, lease / 2)
        # A store that has lost its data learns of a task again within this time, since
        # its worker renews it.
        self._grace = lease / 3 + min(1.0, lease / 3)
        self._sent_at = time.monotonic()
        # Also at once: its worker may have been killed long ago.
        self._look_at = self._sent_at
        # When the lease is over, as far as we know.
        self._known_until: float | None = None
        # Frames are missing after the last one, and the client was told.
        self._is_in_gap = False
        # A client may have read frames that are yet to be written.
        self._is_at_end = position == 0
        self._is_over = self._is_broken = False
        self._stack = ExitStack()
        self._tail: Tail = self._stack.enter_context(writer.arrivals.following(log_id))

    def __next__(self) -> bytes:
        while not self._is_over:
            data = self._next()
            if data:
                self._sent_at = time.monotonic()
                return data
        self.close()
        if self._is_broken:
            raise Lost(f"A part of the answer {self._log_id} is missing.")
        raise StopIteration

    def close(self) -> None:
        """Leave; called by the server."""
        self._is_over = True
        self._stack.close()

    def _next(self) -> bytes:
        page, self._page = self._page, None
        if page is not None and page.records:
            self._is_at_end = True
            return b"".join(self._frames_of(page.records))
        if time.monotonic() - self._sent_at >= self._head.heartbeat:
            if self._head.ping:
                return self._head.ping
            self._sent_at = time.monotonic()
        try:
            if not self._has_no_worker():
                self._page = self._fetch()
            elif not (page := self._read()) or not page.records:
                self._is_over = True
                return self._head.failed_end
            else:
                self._page = page
        except BackendError:
            time.sleep(_AFTER_FAILURE)
        return b""

    def _frames_of(self, records: Sequence[Record]) -> Iterator[bytes]:
        for record in records:
            found = unpack(record.data)
            self._is_over = record.number == END
            is_loss = not found.frames and not self._is_over
            is_missing = is_loss or found.first > self._position + 1
            if is_missing and not self._is_in_gap:
                if not self._head.lost:
                    self._is_broken = self._is_over = True
                    return
                yield self._head.lost
            self._is_in_gap = is_loss
            yield from found.after(self._position)
            if self._is_over and self._position > found.last:
                yield from found.frames[-1:]  # the client named a later position
            last = record.number if is_loss else found.last
            self._position = max(self._position, last)

    def _fetch(self) -> Page | None:
        """Wait for more until the client must get a ping at the latest."""
        next_at = min(self._look_at, self._sent_at + self._head.heartbeat)
        timeout = min(max(0.01, next_at - time.monotonic()), self._events.timeout)
        if not self._tail.wait(
            self._position, timeout, self._read_later, is_at_end=self._is_at_end
        ):
            return None
        page = self._tail.read(self._position, self._read)
        if page is None or not page.records:
            time.sleep(_AFTER_NOTHING)
        return page

    def _read_later(self, seconds: float) -> None:
        record = self._events.wait(self._log_id, self._position, seconds)
        self._tail.read(self._position, partial(self._page_with, record))

    def _page_with(self, record: Record | None) -> Page | None:
        """Return the next page, which needs no read if a record is all of it."""
        if record is not None and unpack(record.data).first <= self._position + 1:
            return Page(self._packed_head, [record])
        return self._read()

    def _read(self) -> Page | None:
        return self._events.read(self._log_id, self._position)

    def _has_no_worker(self) -> bool:
        """Tell whether the task runs no more, though its end is not in the log."""
        now = time.monotonic()
        if self._tail.is_ours or now < self._look_at:
            return False
        self._look_at = now + self._look
        try:
            left = self._lease_left()
        except BackendError:
            self._known_until = None  # it may come back empty
            return False
        if left is not None:
            self._known_until = now + left
        elif self._known_until is None:
            self._known_until = now + self._grace
        # A store that has lost its data knows no task of a worker that is well. Such a
        # worker makes it known again before the lease that was seen is over.
        if left is None and now >= self._known_until:
            return True
        self._look_at = min(self._look_at, self._known_until + _AFTER_LEASE)
        return False

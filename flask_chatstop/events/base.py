"""The interface of a store of answers that are being sent."""

import abc
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from flask_chatstop.checks import byte_count, seconds
from flask_chatstop.events.records import Record

#: Bytes of one answer that are kept, unless told otherwise.
MAX_BYTES = 8 * 1024 * 1024
#: Seconds between two reads of a wait that polls: the first and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.1


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a log.

    :param head: the data of the record with the number 0.
    :param records: the next ones after the position, the lowest number first.
    """

    head: bytes
    records: Sequence[Record]


class EventLog(abc.ABC):
    """The log of answers: it keeps what was sent, for those who come back to an answer.

    Each answer has a log under an id of 64 hexadecimal digits: records with ascending
    numbers from 0 to 2,147,483,647, whose bytes mean nothing to it. To write one of
    your own, fill in the abstract methods and prove it with
    :class:`flask_chatstop.testing.EventLogContract`.

    All methods are called from many threads at once. No call takes longer than
    ``timeout``. When the store fails, a call raises
    :class:`~flask_chatstop.BackendError`. The first call connects, and a forked child
    connects anew.

    :param retention: seconds that a log is kept after it was begun, ended or renewed.
    :param timeout: seconds that one call may take.
    :param max_bytes: how much of one answer is kept. A longer answer goes on, but
        whoever comes back to it is told that a part is missing.
    :raises ConfigurationError: one of them is invalid.
    """

    def __init__(
        self,
        *,
        retention: float = 600.0,
        timeout: float = 2.0,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.retention = seconds("retention", retention)
        self.timeout = seconds("timeout", timeout)
        self.max_bytes = byte_count("max_bytes", max_bytes)

    @abc.abstractmethod
    def append(self, logs: Mapping[str, Sequence[Record]]) -> set[str]:
        """Add records to logs, by their ids: to each at least one, in order.

        A record with the number 0 begins its log, and what was there under this id is
        gone. A record that is there already changes nothing: a call that failed is
        repeated, and may have done its work. Beginning a log, and a record with the
        highest number, which ends it, keep the log for another ``retention`` seconds.

        :returns: the ids of logs that were not begun, or were lost or have expired.
            Nothing is added to them.
        :raises RecordRefused: the store refuses one of them. The worker then adds to
            one log at a time, and gives up the one that is refused.
        """

    @abc.abstractmethod
    def read(self, log_id: str, after: int) -> Page | None:
        """Return the head of a log and its next records with a number above ``after``.

        It returns a megabyte or a few at most, and at least one record if there is one.

        :returns: ``None`` if the log is unknown or has expired.
        """

    @abc.abstractmethod
    def renew(self, log_ids: Collection[str]) -> None:
        """Keep these logs for another ``retention`` seconds; skip unknown ones."""

    def wait(self, log_id: str, after: int, timeout: float) -> Record | None:
        """Wait until there is a record with a number above ``after``.

        It may return such a record if it knows one: the end, say, which came with the
        store's push. Others may be before it. A follower that has all of them needs no
        read then.

        It may return earlier, and returns after ``timeout`` seconds in any case. Many
        threads wait at once, for the same log and for others; they come again at once
        while they follow. If the store can push, wait for that. This one reads again
        and again, after 20 to 100 ms.
        """
        deadline = time.monotonic() + timeout
        pause = _FIRST_PAUSE
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(pause, left))
            page = self.read(log_id, after)
            if page is None or page.records:
                break
            pause = min(_LONGEST_PAUSE, 1.5 * pause)
        return None

    def purge(self) -> int:
        """Delete some logs that have expired, and return their number.

        Workers call it now and then, until it returns 0 or a moment is over. This one
        does nothing, for stores in which logs expire by themselves.
        """
        return 0

    @abc.abstractmethod
    def check(self) -> None:
        """Do nothing if the store is usable.

        :raises BackendError: it is not; the message says what is wrong and what to do.
        """

    def close(self) -> None:  # noqa: B027 - some stores have nothing to close
        """Close the connections; a later call may connect again."""

    def after_fork(self) -> None:  # noqa: B027 - some stores have nothing to leave
        """Leave connections and locks to the parent; called in a forked child."""

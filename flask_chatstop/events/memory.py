"""The log that keeps answers in the memory of one process."""

import threading
import time
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from flask_chatstop.events.base import MAX_BYTES, EventLog, Page
from flask_chatstop.events.records import END, HEAD, Record

#: Bytes of one read.
_PAGE = 1024 * 1024
_number = attrgetter("number")


@dataclass(slots=True)
class _Log:
    head: bytes
    expires_at: float
    records: list[Record] = field(default_factory=list)


class MemoryEventLog(EventLog):
    """Serve one process: other workers and other hosts do not see its answers.

    Use it for development, for tests and for a server with one process and many
    threads. Each answer takes memory until ``retention`` after its end.
    """

    def __init__(
        self,
        *,
        retention: float = 600.0,
        timeout: float = 2.0,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        super().__init__(retention=retention, timeout=timeout, max_bytes=max_bytes)
        self.after_fork()

    def after_fork(self) -> None:
        self._changed = threading.Condition()
        self._logs: dict[str, _Log] = {}

    def append(self, logs: Mapping[str, Sequence[Record]]) -> set[str]:
        unknown = set()
        with self._changed:
            for log_id, records in logs.items():
                if not self._append(log_id, records):
                    unknown.add(log_id)
            self._changed.notify_all()
        return unknown

    def _append(self, log_id: str, records: Sequence[Record]) -> bool:
        for record in records:
            if record.number == HEAD:
                self._logs[log_id] = _Log(record.data, self._expiry())
                continue
            log = self._known(log_id)
            if log is None:
                return False
            if not log.records or record.number > log.records[-1].number:
                log.records.append(record)
            if record.number == END:
                log.expires_at = self._expiry()
        return self._known(log_id) is not None

    def read(self, log_id: str, after: int) -> Page | None:
        with self._changed:
            log = self._known(log_id)
            if log is None:
                return None
            found: list[Record] = []
            size = 0
            start = bisect_right(log.records, after, key=_number)
            for record in log.records[start : start + 1000]:
                size += len(record.data)
                if found and size > _PAGE:
                    break
                found.append(record)
            return Page(log.head, found)

    def wait(self, log_id: str, after: int, timeout: float) -> None:
        def has_more() -> bool:
            log = self._known(log_id)
            return bool(log and log.records and log.records[-1].number > after)

        with self._changed:
            self._changed.wait_for(has_more, timeout)

    def renew(self, log_ids: Collection[str]) -> None:
        with self._changed:
            for log_id in log_ids:
                if log := self._known(log_id):
                    log.expires_at = self._expiry()

    def purge(self) -> int:
        with self._changed:
            now = time.monotonic()
            expired = [x for x, log in self._logs.items() if log.expires_at <= now]
            for log_id in expired:
                del self._logs[log_id]
            return len(expired)

    def check(self) -> None:
        """Do nothing: memory is there."""

    def _known(self, log_id: str) -> _Log | None:
        log = self._logs.get(log_id)
        if log is None or log.expires_at <= time.monotonic():
            return None
        return log

    def _expiry(self) -> float:
        return time.monotonic() + self.retention

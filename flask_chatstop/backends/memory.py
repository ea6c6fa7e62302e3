"""The backend that keeps tasks in the memory of one process."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from flask_chatstop.backends.base import (
    EndReason,
    Owner,
    StopBackend,
    StopOutcome,
    TaskInfo,
    TaskRecord,
)


@dataclass(slots=True)
class _Entry:
    record: TaskRecord
    began_at: float
    expires_at: float
    stopping: bool = False
    reason: EndReason | None = None


class MemoryBackend(StopBackend):
    """Serve one process: other workers and other hosts do not see its tasks.

    Use it for development, for tests and for a server with one process and many
    threads. It keeps the running tasks and those that ended within ``retention``.
    """

    def __init__(
        self, *, lease: float = 60.0, retention: float = 600.0, timeout: float = 2.0
    ) -> None:
        super().__init__(lease=lease, retention=retention, timeout=timeout)
        self.after_fork()

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        # Each is in the order of expiry, so the expired entries are at the front.
        self._running: OrderedDict[str, _Entry] = OrderedDict()
        self._ended: OrderedDict[str, _Entry] = OrderedDict()
        # These were stopping when their lease ran out. Their worker may renew them.
        self._lapsed: OrderedDict[str, _Entry] = OrderedDict()
        self._listeners: dict[str, Callable[[Collection[str]], None]] = {}

    def announce(self, record: TaskRecord) -> bool:
        with self._lock:
            self._forget_expired()
            if record.task_id in self._running or record.task_id in self._ended:
                return False
            self._put(record)
            return True

    def renew(self, records: Sequence[TaskRecord]) -> set[str]:
        with self._lock:
            self._forget_expired()
            return {record.task_id for record in records if not self._renew_one(record)}

    def _renew_one(self, record: TaskRecord) -> bool:
        entry = self._running.get(record.task_id)
        if entry is not None:
            if entry.record.worker_id != record.worker_id:
                return False
            entry.expires_at = time.monotonic() + self.lease
            self._running.move_to_end(record.task_id)
            return True
        if record.task_id in self._ended:
            return False
        self._put(record)
        lapsed = self._lapsed.pop(record.task_id, None)
        if lapsed is not None and lapsed.record == record:
            self._running[record.task_id].stopping = True
        return True

    def stop(self, task_id: str, owner: Owner) -> StopOutcome:
        with self._lock:
            self._forget_expired()
            entry = self._running.get(task_id) or self._ended.get(task_id)
            if entry is None or entry.record.owner != owner:
                return StopOutcome.MISSING
            if entry.reason is not None:
                stopped = entry.reason is EndReason.STOPPED
                return StopOutcome.STOPPED if stopped else StopOutcome.ENDED
            notify = None
            if not entry.stopping:
                entry.stopping = True
                notify = self._listeners.get(entry.record.worker_id)
        if notify is not None:
            notify([task_id])
        return StopOutcome.STOPPING

    def end(self, record: TaskRecord, reason: EndReason) -> bool:
        with self._lock:
            self._forget_expired()
            entry = self._running.get(record.task_id)
            if entry is None or entry.record.worker_id != record.worker_id:
                return False
            del self._running[record.task_id]
            entry.reason = reason
            entry.expires_at = time.monotonic() + self.retention
            self._ended[record.task_id] = entry
            return True

    def stops(self, worker_id: str, task_ids: Collection[str]) -> set[str]:
        with self._lock:
            self._forget_expired()
            entries = (self._running.get(task_id) for task_id in task_ids)
            return {
                entry.record.task_id
                for entry in entries
                if entry and entry.stopping and entry.record.worker_id == worker_id
            }

    def tasks(
        self,
        *,
        task_id: str | None = None,
        app: str | None = None,
        source: str | None = None,
        user: str | None = None,
    ) -> list[TaskInfo]:
        with self._lock:
            self._forget_expired()
            entries = sorted(self._running.values(), key=lambda entry: entry.began_at)
        now = time.monotonic()
        return [
            TaskInfo(
                entry.record,
                entry.stopping,
                age=now - entry.began_at,
                lease_left=entry.expires_at - now,
            )
            for entry in entries
            if task_id in (None, entry.record.task_id)
            and entry.record.owner.matches(app, source, user)
        ]

    def has_ended(self, task_id: str, owner: Owner) -> bool:
        with self._lock:
            self._forget_expired()
            entry = self._ended.get(task_id)
            return entry is not None and entry.record.owner == owner

    def listen(
        self,
        worker_id: str,
        running: Callable[[], Collection[str]],
        heard: Callable[[Collection[str]], None],
        closing: threading.Event,
    ) -> None:
        with self._lock:
            self._listeners[worker_id] = heard
        try:
            heard(self.stops(worker_id, running()))
            closing.wait()
        finally:
            with self._lock:
                # A new listener may have begun, since nobody waits for old threads.
                if self._listeners.get(worker_id) is heard:
                    del self._listeners[worker_id]

    def check(self) -> None:
        """Do nothing, since memory is always available."""

    def _put(self, record: TaskRecord) -> None:
        now = time.monotonic()
        self._running[record.task_id] = _Entry(record, now, now + self.lease)

    def _forget_expired(self) -> None:
        now = time.monotonic()
        for entries in (self._running, self._ended, self._lapsed):
            while entries and next(iter(entries.values())).expires_at <= now:
                task_id, entry = entries.popitem(last=False)
                if entries is self._running and entry.stopping:
                    entry.expires_at = now + self.retention
                    self._lapsed[task_id] = entry

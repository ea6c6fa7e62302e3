"""A base class for backends of your own: two methods on any store.

The store keeps one :class:`TaskEntry` per task, and :class:`SimpleBackend` decides what
becomes of it. All depends on one promise of the subclass: **its** ``change`` **is
atomic for one id, over all processes that share the store.** Two ways keep the promise:

- *A lock in the store*, taken before the entry is read and held until it is written: a
  transaction that locks first (SQLite's ``BEGIN IMMEDIATE``), or a lock that the store
  grants for a limited time. ``SELECT ... FOR UPDATE`` alone is not enough, since it
  does not lock an entry that does not exist yet.
- *Compare-and-swap*: read the entry, compute the new one, and write it only if the
  store still has what was read (a version column, an ETag, Redis's ``WATCH``). Compare
  also that there was no entry. If another process was faster, read again, until
  ``timeout`` is over.

A :class:`threading.Lock` keeps the promise for one process only.
"""

import abc
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence

from flask_chatstop.backends.base import (
    EndReason,
    Owner,
    StopBackend,
    StopOutcome,
    TaskInfo,
    TaskRecord,
)
from flask_chatstop.backends.entry import Change, TaskEntry
from flask_chatstop.errors import BackendError
from flask_chatstop.logs import get_logger

logger = get_logger(__name__)

_PURGE_INTERVAL = 60.0


class SimpleBackend(StopBackend):
    """Keep tasks in a store of which only :meth:`change` and :meth:`entries` are known.

    Workers poll for stops. If the store can push, override :meth:`notify` and
    :meth:`~StopBackend.listen`. Both abstract methods return or raise within
    ``timeout``, and raise :class:`BackendError` from the driver's error.
    """

    _purge_at = 0.0

    @abc.abstractmethod
    def change(self, task_id: str, fn: Change) -> None:
        """Replace the entry of an id by ``fn(entry)``, atomically.

        :param fn: takes the stored entry, or None if there is none, and returns the
            entry to store, or None to delete it. If it returns an entry that equals the
            stored one, nothing needs to be written. It has no side effects and may be
            called again; the last call must be the one whose result is stored.
        :raises BackendError: the store failed, or the race was lost until ``timeout``.
        """

    @abc.abstractmethod
    def entries(self) -> Iterable[TaskEntry]:
        """Return every entry, in any order; expired ones may be left out."""

    def entries_of(self, task_ids: Collection[str]) -> Iterable[TaskEntry]:
        """Return at least the entries of some ids, as far as there are any.

        Each worker with running tasks calls it 10 times a second. This one returns
        :meth:`entries`. Override it if the store can read by id.
        """
        return self.entries()

    def now(self) -> float:
        """Return the seconds by the clock that all workers share.

        This one is the clock of the host, which is right for processes of one host. For
        several hosts, return the clock of the store.

        :raises BackendError: the store failed.
        """
        return time.time()

    def notify(self, record: TaskRecord) -> None:
        """Tell the worker ``record.worker_id`` that this task has to stop.

        It is called once per stopped task, after the entry was changed. If it fails,
        the worker learns of the stop with its next sweep. This one does nothing,
        because :meth:`~StopBackend.listen` polls.

        :raises BackendError: the store failed; the error is logged.
        """

    def announce(self, record: TaskRecord) -> bool:
        def insert(entry: TaskEntry | None, now: float) -> TaskEntry:
            return entry or TaskEntry.running(record, now, self.lease)

        return self._apply(record.task_id, insert) is None

    def renew(self, records: Sequence[TaskRecord]) -> set[str]:
        deadline = time.monotonic() + self.timeout
        taken = set()
        for count, record in enumerate(records):
            if time.monotonic() > deadline:
                raise BackendError(
                    f"Only {count} of {len(records)} tasks were renewed within"
                    f" {self.timeout} s; set a longer timeout, or override renew()."
                )
            if not self._renew_one(record):
                taken.add(record.task_id)
        return taken

    def stop(self, task_id: str, owner: Owner) -> StopOutcome:
        def ask(entry: TaskEntry | None, now: float) -> TaskEntry | None:
            if entry and entry.record.owner == owner and entry.state == "running":
                return entry.stopping(self.retention)
            return entry

        found = self._apply(task_id, ask)
        if found is None or found.record.owner != owner:
            return StopOutcome.MISSING
        if found.state == "running":
            try:
                self.notify(found.record)
            except BackendError as error:
                logger.warning("A worker was not notified of a stop: %s", error)
        if found.is_open:
            return StopOutcome.STOPPING
        stopped = found.state == EndReason.STOPPED
        return StopOutcome.STOPPED if stopped else StopOutcome.ENDED

    def end(self, record: TaskRecord, reason: EndReason) -> bool:
        def finish(entry: TaskEntry | None, now: float) -> TaskEntry | None:
            if entry and entry.is_open_for(record.worker_id):
                return entry.ended(reason, now, self.retention)
            return entry

        known = self._apply(record.task_id, finish)
        self._purge_now_and_then()
        return known is not None and known.is_open_for(record.worker_id)

    def stops(self, worker_id: str, task_ids: Collection[str]) -> set[str]:
        if not task_ids:
            return set()
        now = self.now()
        stopping = {
            entry.record.task_id
            for entry in self.entries_of(task_ids)
            if entry.state == "stopping"
            and entry.record.worker_id == worker_id
            and now < entry.expires_at
        }
        return stopping.intersection(task_ids)

    def tasks(
        self,
        *,
        task_id: str | None = None,
        app: str | None = None,
        source: str | None = None,
        user: str | None = None,
    ) -> list[TaskInfo]:
        now = self.now()
        found = self.entries() if task_id is None else self.entries_of([task_id])
        return [
            TaskInfo(
                entry.record,
                entry.state == "stopping",
                age=now - entry.began_at,
                lease_left=entry.expires_at - now,
            )
            for entry in sorted(found, key=lambda entry: entry.began_at)
            if entry.is_open
            and now < entry.expires_at
            and task_id in (None, entry.record.task_id)
            and entry.record.owner.matches(app, source, user)
        ]

    def has_ended(self, task_id: str, owner: Owner) -> bool:
        now = self.now()
        return any(
            entry.record == TaskRecord(task_id, owner, entry.record.worker_id)
            for entry in self.entries_of([task_id])
            if not entry.is_open and now < entry.expires_at
        )

    def check(self) -> None:
        """Store an entry that counts as unknown, and delete it."""
        record = TaskRecord(uuid.uuid4().hex, Owner("", "", "check"), "check")
        now = self.now()
        entry = TaskEntry(record, "running", now, now, now + self.timeout)
        self.change(record.task_id, lambda _: entry)
        self.change(record.task_id, lambda _: None)

    def _apply(
        self,
        task_id: str,
        step: Callable[[TaskEntry | None, float], TaskEntry | None],
    ) -> TaskEntry | None:
        """Change the entry of an id, and return the one that was known before."""
        now = self.now()
        known: TaskEntry | None = None

        def fn(entry: TaskEntry | None) -> TaskEntry | None:
            nonlocal known
            known = entry if entry and now < entry.expires_at else None
            new = step(known, now)
            if new is None and entry and now < entry.keep_until:
                return entry  # only for the renewal of its own worker
            return new

        self.change(task_id, fn)
        return known

    def _renew_one(self, record: TaskRecord) -> bool:
        now = self.now()
        is_ours = False

        def fn(entry: TaskEntry | None) -> TaskEntry:
            nonlocal is_ours
            if entry is None or entry.is_free_for(record, now):
                entry = TaskEntry.running(record, now, self.lease)
            is_ours = entry.is_open_for(record.worker_id)
            return entry.renewed(now, self.lease, self.retention) if is_ours else entry

        self.change(record.task_id, fn)
        return is_ours

    def _purge_now_and_then(self) -> None:
        """Delete what the store may forget, for a moment and once in a minute."""
        began = time.monotonic()
        if began < self._purge_at:
            return
        self._purge_at = began + _PURGE_INTERVAL
        try:
            now = self.now()
            old = [entry for entry in self.entries() if entry.keep_until <= now]
            for entry in old:
                if time.monotonic() > began + self.timeout / 2:
                    break
                # Returns None unless the id is in use again.
                self._apply(entry.record.task_id, lambda entry, now: entry)
        except BackendError as error:
            logger.warning("Old entries were not purged: %s", error)

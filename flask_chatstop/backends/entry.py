"""What a store of :class:`SimpleBackend` keeps of one task."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from flask_chatstop.backends.base import EndReason, Owner, TaskRecord


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """What a store keeps of one task; all times are seconds by the store's clock.

    :param state: ``running``, ``stopping``, or the :class:`EndReason` of its end.
    :param began_at: when the task became known.
    :param expires_at: from then on the task counts as unknown.
    :param keep_until: from then on the store may delete the entry. It is later than
        ``expires_at`` for a task that is stopping, because a worker that was cut off
        from the store must still learn of the stop.
    """

    record: TaskRecord
    state: str
    began_at: float
    expires_at: float
    keep_until: float

    def to_json(self) -> str:
        """Return the entry as a JSON text of ASCII characters."""
        record = self.record
        times = [self.began_at, self.expires_at, self.keep_until]
        return json.dumps(
            [record.task_id, *record.owner, record.worker_id, self.state, *times]
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> "TaskEntry":
        """Return the entry that :meth:`to_json` wrote."""
        task_id, app, source, user, worker_id, state, *times = json.loads(text)
        return cls(
            TaskRecord(task_id, Owner(app, source, user), worker_id), state, *times
        )

    @classmethod
    def running(cls, record: TaskRecord, now: float, lease: float) -> "TaskEntry":
        """Return the entry of a task that begins now."""
        return cls(record, "running", now, now + lease, now + lease)

    def stopping(self, retention: float) -> "TaskEntry":
        """Return the entry of the task once it was asked to stop."""
        return replace(self, state="stopping", keep_until=self.expires_at + retention)

    def renewed(self, now: float, lease: float, retention: float) -> "TaskEntry":
        """Return the entry with a new lease."""
        entry = replace(self, expires_at=now + lease, keep_until=now + lease)
        return entry.stopping(retention) if self.state == "stopping" else entry

    def ended(self, reason: EndReason, now: float, retention: float) -> "TaskEntry":
        """Return the entry of the task once it has ended."""
        until = now + retention
        return TaskEntry(self.record, reason.value, self.began_at, until, until)

    @property
    def is_open(self) -> bool:
        """Whether the task has not ended: it is running or stopping."""
        return self.state in ("running", "stopping")

    def is_open_for(self, worker_id: str) -> bool:
        """Whether the task has not ended, and this worker has it."""
        return self.is_open and self.record.worker_id == worker_id

    def is_free_for(self, record: TaskRecord, now: float) -> bool:
        """Whether a renewal may replace this entry by a new one of its task."""
        is_kept = self.state == "stopping" and now < self.keep_until
        return self.expires_at <= now and not (is_kept and self.record == record)


#: Takes the entry of an id or None, and returns the one to store or None.
Change = Callable[[TaskEntry | None], TaskEntry | None]

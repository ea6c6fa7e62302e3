"""The running tasks of one worker, which its threads share."""

import queue
import threading
from collections.abc import Collection
from typing import Protocol
from weakref import WeakValueDictionary

from flask_chatstop.backends import EndReason, Owner, StopOutcome, TaskRecord
from flask_chatstop.errors import TaskExists


class RunnableTask(Protocol):
    """What a worker needs to know of a task."""

    @property
    def record(self) -> TaskRecord: ...

    def stop(self) -> bool: ...

    def end(self, reason: EndReason) -> bool: ...


#: How a task ended, a task that nobody holds any more, or ``None``: just look.
Message = tuple[TaskRecord, EndReason] | RunnableTask | None


class RunningTasks:
    """The tasks of one worker, and the messages about them for its reconciler.

    Tasks are held weakly: whoever runs a generation holds its task.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._tasks: WeakValueDictionary[str, RunnableTask] = WeakValueDictionary()
        # Begun and not reported: a task may be collected before its end is reported.
        self._unreported: set[TaskRecord] = set()
        # Ended and not reported: the store would say that they are stopping.
        self._ended: dict[str, tuple[TaskRecord, EndReason]] = {}
        # A renewal makes an unknown task known. It must leave out a task that is being
        # announced, or the announcement finds its own id taken.
        self._announcing: set[str] = set()
        # The garbage collector puts abandoned tasks into it, and may interrupt a
        # thread that holds a lock. SimpleQueue is the only queue that allows it.
        self.inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.must_look = False

    @property
    def is_native(self) -> bool:
        """Whether the queue is of the kind that threads use now, patched or not."""
        return isinstance(self.inbox, queue.SimpleQueue)

    @property
    def is_idle(self) -> bool:
        """Whether the end of every task has been reported."""
        return not self._unreported

    def add(self, task: RunnableTask) -> None:
        """Hold a task weakly, and leave it out of renewals until :meth:`announced`.

        :raises TaskExists: its id is running.
        """
        record = task.record
        with self._lock:
            if record.task_id in self._tasks:
                raise TaskExists(f"The task id {record.task_id!r} is running.")
            self._announcing.add(record.task_id)
            self._tasks[record.task_id] = task
            self._unreported.add(record)

    def announced(self, record: TaskRecord) -> None:
        """Renew this task from now on."""
        self._announcing.discard(record.task_id)

    def forget(self, task: RunnableTask) -> None:
        """Drop a task that has ended or was never accepted."""
        with self._lock:
            self._unreported.discard(task.record)
            if self._tasks.get(task.record.task_id) is task:
                del self._tasks[task.record.task_id]

    def get(self, task_id: str) -> RunnableTask | None:
        """Return the task with this id, if it runs here."""
        return self._tasks.get(task_id)

    def outcome(self, task_id: str, owner: Owner) -> StopOutcome | None:
        """Return what a stop finds of a task whose end the store is yet to learn."""
        record, reason = self._ended.get(task_id, (None, None))
        if record is None or record.owner != owner:
            return None
        stopped = reason is EndReason.STOPPED
        return StopOutcome.STOPPED if stopped else StopOutcome.ENDED

    def all(self) -> list[RunnableTask]:
        """Return the tasks that run now."""
        # One step: a garbage collection may remove tasks between two.
        references = list(self._tasks.valuerefs())
        return [task for found in references if (task := found()) is not None]

    def ids(self) -> list[str]:
        """Return the ids of the tasks that run now."""
        return [task.record.task_id for task in self.all()]

    def renewable(self) -> list[TaskRecord]:
        """Return the records of the tasks that a renewal is for."""
        return [
            task.record
            for task in self.all()
            if task.record.task_id not in self._announcing
        ]

    def stop(self, task_ids: Collection[str]) -> None:
        """Stop those of these tasks that run here."""
        for task_id in task_ids:
            if task := self._tasks.get(task_id):
                task.stop()

    def report(self, task: RunnableTask, reason: EndReason) -> None:
        """Have the store told how a task ended; return at once."""
        self._ended[task.record.task_id] = task.record, reason
        # In this order, so that a renewal finds the task in one place or the other.
        self.inbox.put((task.record, reason))
        self.forget(task)

    def reported(self, record: TaskRecord) -> None:
        """Leave it to the store from now on to say how a task ended."""
        if self._ended.get(record.task_id, (None,))[0] is record:
            del self._ended[record.task_id]

    def abandon(self, task: RunnableTask) -> None:
        """Have a task ended that nobody holds; the garbage collector may call it."""
        # Of a cycle, the collector has cleared the weak reference. A stop that comes
        # before the end is to find the task.
        self._tasks[task.record.task_id] = task
        self.inbox.put(task)

    def look_again(self) -> None:
        """Have every task renewed and swept at once."""
        self.must_look = True
        self.inbox.put(None)

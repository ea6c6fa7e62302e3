"""The running tasks of one worker, which its threads share."""

import queue
import threading
from collections.abc import Collection
from typing import Protocol
from weakref import WeakValueDictionary

from flask_chatstop.backends import EndReason, Owner, StopOutcome, TaskInfo, TaskRecord
from flask_chatstop.errors import TaskExists
from flask_chatstop.logs import get_logger

logger = get_logger(__name__)


class RunnableTask(Protocol):
    """What a worker needs to know of a task."""

    @property
    def record(self) -> TaskRecord: ...

    def stop(self) -> bool: ...

    def end(self, reason: EndReason, error: BaseException | None = None) -> bool: ...

    def info(self) -> TaskInfo: ...


class RunningTasks:
    """The tasks of one worker, and what its reconciler has to know of them.

    Tasks are held weakly: whoever runs a generation holds its task. An id is taken from
    the beginning of its task until the store knows the end, or two generations could
    have one id.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._tasks: WeakValueDictionary[str, RunnableTask] = WeakValueDictionary()
        # Begun and not reported: a task may be collected before its end is reported.
        self._unreported: dict[str, TaskRecord] = {}
        # Ended and not reported: the store would say that they are stopping.
        self._ended: dict[str, tuple[TaskRecord, EndReason]] = {}
        # A renewal makes an unknown task known. It must leave out a task that is being
        # announced, or the announcement finds its own id taken.
        self._announcing: set[str] = set()
        self._refused: set[str] = set()
        # A task that nobody holds any more, or None: look. The garbage collector puts
        # tasks into it, and may interrupt a thread that holds a lock. SimpleQueue is
        # the only queue that allows it.
        self.inbox: queue.SimpleQueue[RunnableTask | None] = queue.SimpleQueue()
        self.must_look = False

    @property
    def is_native(self) -> bool:
        """Whether the queue is of the kind that threads use now, patched or not."""
        return isinstance(self.inbox, queue.SimpleQueue)

    @property
    def is_idle(self) -> bool:
        """Whether the store knows the end of every task."""
        return not self._unreported

    def add(self, task: RunnableTask) -> None:
        """Hold a task weakly, and leave it out of renewals until :meth:`announced`.

        :raises TaskExists: its id is running, or its end is not reported yet.
        """
        task_id = task.record.task_id
        with self._lock:
            if task_id in self._ended:
                raise TaskExists(f"The end of task {task_id!r} is not reported yet.")
            if task_id in self._unreported:
                raise TaskExists(f"The task id {task_id!r} is running.")
            self._announcing.add(task_id)
            self._tasks[task_id] = task
            self._unreported[task_id] = task.record

    def announced(self, record: TaskRecord) -> None:
        """Renew this task from now on."""
        self._announcing.discard(record.task_id)

    def refused(self, record: TaskRecord) -> bool:
        """Note that the store refuses a record, and tell whether that is new."""
        is_new = record.task_id not in self._refused
        if record.task_id in self._unreported:
            self._refused.add(record.task_id)
        return is_new

    def accepted(self, record: TaskRecord) -> None:
        """Note that the store does not refuse a record any more."""
        self._refused.discard(record.task_id)

    def is_refused(self, record: TaskRecord) -> bool:
        """Return whether the store has refused a record."""
        return record.task_id in self._refused

    def forget(self, task: RunnableTask) -> None:
        """Drop a task that was never accepted, or has ended where no store is told."""
        with self._lock:
            if self._unreported.get(task.record.task_id) is task.record:
                self._drop(task.record)

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
        """Return the records of the tasks that a renewal is for.

        What began and ended during an outage must be known before it can end.
        """
        with self._lock:
            running = [task.record for task in self.all()]
            ended = [record for record, _ in self.ends()]
        return [x for x in running if x.task_id not in self._announcing] + ended

    def stop(self, task_ids: Collection[str]) -> None:
        """Stop those of these tasks that run here."""
        for task_id in task_ids:
            if task := self._tasks.get(task_id):
                try:
                    task.stop()
                except Exception as error:  # it must not harm the others
                    message = "The stop of task %r failed."
                    logger.error(message, task_id, exc_info=error)

    def report(self, task: RunnableTask, reason: EndReason) -> None:
        """Have the store told how a task ended; return at once."""
        record = task.record
        with self._lock:
            if self._unreported.get(record.task_id) is record:
                self._ended.setdefault(record.task_id, (record, reason))
                self._tasks.pop(record.task_id, None)
        self.inbox.put(None)

    @property
    def has_ends(self) -> bool:
        """Whether there are ends that the store does not know."""
        return bool(self._ended)

    def ends(self) -> list[tuple[TaskRecord, EndReason]]:
        """Return the ends that the store does not know, the oldest first."""
        return list(self._ended.values())

    def reported(self, record: TaskRecord) -> None:
        """Note that the store knows the end of a task."""
        with self._lock:
            self._drop(record)

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

    def _drop(self, record: TaskRecord) -> None:
        self._tasks.pop(record.task_id, None)
        self._ended.pop(record.task_id, None)
        self._refused.discard(record.task_id)
        self._unreported.pop(record.task_id, None)

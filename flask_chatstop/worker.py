"""The running tasks of this process, and how a stop finds them."""

import atexit
import contextlib
import logging
import os
import threading
import time
import uuid
from collections.abc import Collection
from weakref import WeakSet, WeakValueDictionary

from flask_chatstop.backends import (
    EndReason,
    Owner,
    StopBackend,
    StopOutcome,
    TaskRecord,
)
from flask_chatstop.errors import BackendError, TaskExists
from flask_chatstop.keeper import Keeper, Running

logger = logging.getLogger(__name__)


class Worker:
    """One process of an app: its running tasks, known to the store and stoppable.

    Tasks are held weakly: whoever runs a generation holds its task.

    :param sweep_interval: seconds between two looks for stops whose ring was lost.
    """

    def __init__(self, backend: StopBackend, *, sweep_interval: float = 5.0) -> None:
        self.backend = backend
        self.sweep_interval = sweep_interval
        self.id = uuid.uuid4().hex
        self._begin()
        _workers.add(self)

    def _begin(self) -> None:
        self._lock = threading.RLock()
        # Begun and not reported: a task may be gone before its end is.
        self._open: set[TaskRecord] = set()
        self._tasks: WeakValueDictionary[str, Running] = WeakValueDictionary()
        self._keeper = Keeper(
            self.backend,
            self.id,
            self.sweep_interval,
            self._running,
            self._is_idle,
            self._heard,
        )

    def after_fork(self) -> None:
        """Begin anew in a forked child: the tasks and threads are the parent's."""
        self.id = uuid.uuid4().hex
        self._begin()
        self.backend.after_fork()

    def _adapt(self) -> None:
        """Begin anew if gevent has patched threads since: gunicorn that preloads."""
        if not self._keeper.is_native:
            self._begin()

    def start(self, task: Running) -> None:
        """Make a task stoppable from every worker.

        With the store out of reach the task runs all the same, is logged, and is
        announced when the store is back.

        :raises TaskExists: the id is running or was in use within the retention.
        """
        self._adapt()
        record = task.record
        with self._lock:
            if record.task_id in self._tasks:
                raise TaskExists(f"The task id {record.task_id!r} is running.")
            self._keeper.claim(record.task_id)
            self._tasks[record.task_id] = task
            self._open.add(record)
        try:
            self._announce(record)
            # Not before: what gives an engine may need the context of the app.
            self._keeper.run()
        except TaskExists:
            self._forget(task)
            raise
        except BaseException:  # interrupted, or no thread: the store may know it
            self.ended(task, EndReason.FAILED)
            raise

    def _announce(self, record: TaskRecord) -> None:
        lost: BackendError | None = None
        try:
            if self._keeper.store_is_up:
                if self.backend.announce(record):
                    return
                raise TaskExists(f"The task id {record.task_id!r} is taken.")
        except BackendError as error:
            lost = error
        finally:
            self._keeper.release(record.task_id)
        # Then, and not before: the keeper leaves out what is claimed.
        if lost is not None:
            self._keeper.lost(lost)
        else:
            # The keeper may be past announcing what runs, and about to find the store.
            self._keeper.look_again()
        logger.warning(
            "Task %s runs, but only this process can stop it until the store is back.",
            record.task_id,
        )

    def stop(self, task_id: str, owner: Owner) -> StopOutcome:
        """Stop a task wherever it runs; one that runs here ends now, store or not.

        :raises BackendError: the store failed, and the task does not run here.
        """
        self._adapt()
        task = self._tasks.get(task_id)
        here = task is not None and task.record.owner == owner and task.stop()
        try:
            outcome = self.backend.stop(task_id, owner)
        except BackendError as error:
            self._keeper.lost(error)
            if not here:
                raise
            outcome = StopOutcome.MISSING
        # A store that is away or came back empty does not know the task, but we do.
        return StopOutcome.STOPPING if here else outcome

    def stop_and_wait(self, task_id: str, owner: Owner, seconds: float) -> StopOutcome:
        """Stop a task, and give it so many seconds to report its end.

        Looks at the store 20 times a second. An outage meanwhile is no error, since
        the stop has been taken.

        :raises BackendError: the store failed to take the stop.
        """
        if not seconds:
            return self.stop(task_id, owner)
        deadline = time.monotonic() + seconds
        is_ours = task_id in self._tasks
        outcome = self.stop(task_id, owner)
        with contextlib.suppress(BackendError):
            while outcome is StopOutcome.STOPPING and time.monotonic() < deadline:
                time.sleep(min(0.05, max(0.0, deadline - time.monotonic())))
                found = self.stop(task_id, owner)
                if found is StopOutcome.MISSING:
                    # The store has lost the task, but the stop was taken before.
                    return StopOutcome.STOPPED if is_ours else StopOutcome.STOPPING
                outcome = found
        return outcome

    def stop_all(
        self, *, app: str | None, source: str | None, user: str
    ) -> list[TaskRecord]:
        """Stop every task of a user, in every worker.

        :param app: only those of this app, and so for the source.
        :returns: the tasks that were running or stopping.
        :raises BackendError: the store failed; those that run here are stopped.
        """
        stopped = {
            task.record.task_id: task.record
            for task in self._running()
            if task.record.owner.matches(app, source, user) and task.stop()
        }
        for info in self.backend.tasks(app=app, source=source, user=user):
            outcome = self.stop(info.record.task_id, info.record.owner)
            # It may have reported its end since it was listed.
            if outcome in (StopOutcome.STOPPING, StopOutcome.STOPPED):
                stopped[info.record.task_id] = info.record
        return list(stopped.values())

    def ended(self, task: Running, reason: EndReason) -> None:
        """Have an end reported to the store; returns at once."""
        # In this order: the keeper finds it in one place or the other.
        self._keeper.report(task.record, reason)
        self._forget(task)

    def abandon(self, task: Running) -> None:
        """Have a task ended that nobody holds; the garbage collector may call it."""
        self._keeper.abandon(task)

    def close(self) -> None:
        """End what still runs as failed and report all ends; for the exit."""
        for task in self._running():
            try:
                task.end(EndReason.FAILED)
            except Exception:
                logger.exception("The end of task %s failed.", task.record.task_id)
        self._keeper.close()
        self.backend.close()

    def _running(self) -> list[Running]:
        # A copy in one step: a garbage collection may take tasks away between two.
        references = list(self._tasks.valuerefs())
        return [task for found in references if (task := found()) is not None]

    def _is_idle(self) -> bool:
        return not self._open

    def _forget(self, task: Running) -> None:
        with self._lock:
            self._open.discard(task.record)
            if self._tasks.get(task.record.task_id) is task:
                del self._tasks[task.record.task_id]

    def _heard(self, task_ids: Collection[str]) -> None:
        for task_id in task_ids:
            if task := self._tasks.get(task_id):
                task.stop()


# What a process truly shares: a fork and the exit concern every worker in it.
_workers: WeakSet[Worker] = WeakSet()


def _after_fork() -> None:
    for worker in list(_workers):
        worker.after_fork()


def _at_exit() -> None:
    for worker in list(_workers):
        try:
            worker.close()
        except Exception:
            logger.exception("A worker could not be closed.")


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)

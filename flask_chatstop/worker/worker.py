"""One process of an app: its running tasks, and how a stop reaches them."""

import atexit
import logging
import uuid
from functools import partial
from weakref import WeakSet

from flask_chatstop.backends import (
    EndReason,
    Owner,
    StopBackend,
    StopOutcome,
    TaskRecord,
)
from flask_chatstop.errors import BackendError, RecordRefused, TaskExists
from flask_chatstop.forks import call_in_child, notice_fork
from flask_chatstop.logs import log
from flask_chatstop.worker.reconciler import Reconciler
from flask_chatstop.worker.running import RunnableTask, RunningTasks
from flask_chatstop.worker.waiting import WaitingStops

logger = logging.getLogger(__name__)


class Worker:
    """One process of an app: its running tasks, known to the store and stoppable.

    :param sweep_interval: seconds between two reads of the store for stops whose
        notification was lost.
    """

    def __init__(self, backend: StopBackend, *, sweep_interval: float = 5.0) -> None:
        self.backend = backend
        self.sweep_interval = sweep_interval
        self._id = uuid.uuid4().hex
        self._begin()
        _workers.add(self)

    @property
    def id(self) -> str:
        """The id of this worker, which no other process has."""
        notice_fork()
        return self._id

    def _begin(self) -> None:
        self._running = RunningTasks()
        self._reconciler = Reconciler(
            self.backend, self._id, self.sweep_interval, self._running
        )
        self._waiting = WaitingStops()

    def after_fork(self) -> None:
        """Begin anew in a forked child: the tasks and threads are the parent's."""
        self._id = uuid.uuid4().hex
        self._begin()
        self.backend.after_fork()

    def _adapt(self) -> None:
        """Begin anew after a fork, or if gevent has patched threads since.

        gunicorn patches them after it has loaded the app if it preloads.
        """
        notice_fork()
        if not self._running.is_native:
            self._begin()

    def start(self, task: RunnableTask) -> None:
        """Make a task stoppable from every worker.

        With the store out of reach the task runs all the same. That is logged, and
        the task is announced when the store is back.

        :raises TaskExists: the id is running or was in use within the retention.
        """
        self._adapt()
        self._running.add(task)
        try:
            self._announce(task.record)
            # After announcing: a callable that makes the engine may need the app's
            # context, which the threads do not have.
            self._reconciler.begin()
        except TaskExists:
            self._running.forget(task)
            raise
        except BaseException:  # interrupted, or no thread: the store may know it
            self.ended(task, EndReason.FAILED)
            raise

    def _announce(self, record: TaskRecord) -> None:
        lost: BackendError | None = None
        try:
            if self._reconciler.store_is_up:
                if self._reconciler.store.announce(record):
                    return
                raise TaskExists(f"The task id {record.task_id!r} is taken.")
        except BackendError as error:
            lost = error
        finally:
            self._running.announced(record)
        # After that: the reconciler leaves out what is being announced.
        if lost is not None:
            self._reconciler.lost(lost)
        else:
            # The reconciler may have announced what runs, and be about to find the
            # store.
            self._running.look_again()
        message = (
            "Task %r runs, but only this process can stop it until the store is back."
        )
        log(logger, logging.WARNING, message, record.task_id)

    def stop(self, task_id: str, owner: Owner) -> StopOutcome:
        """Stop a task wherever it runs; one that runs here ends now, store or not.

        :raises BackendError: the store failed, and the task does not run here.
        """
        self._adapt()
        if not self._running.is_idle:  # else there is nothing for threads to do
            self._reconciler.look()
        task = self._running.get(task_id)
        here = task is not None and task.record.owner == owner and task.stop()
        # The client may have seen an end that the store has not.
        if not here and (ended := self._running.outcome(task_id, owner)):
            return ended
        try:
            outcome = self.backend.stop(task_id, owner)
        except RecordRefused:
            # The task may run elsewhere all the same: 404 would not be true.
            if not here:
                raise
            outcome = StopOutcome.MISSING
        except BackendError as error:
            self._reconciler.lost(error)
            if not here:
                raise
            outcome = StopOutcome.MISSING
        # A store that is away or came back empty does not know the task, but we do.
        return StopOutcome.STOPPING if here else outcome

    def stop_and_wait(self, task_id: str, owner: Owner, seconds: float) -> StopOutcome:
        """Stop a task, and wait so many seconds for its end to be reported.

        Returns at once if too many wait already, see :class:`WaitingStops`.

        :raises BackendError: the store failed to take the stop.
        """
        if not seconds:
            return self.stop(task_id, owner)
        is_ours = self._running.get(task_id) is not None
        outcome = self.stop(task_id, owner)
        if outcome is not StopOutcome.STOPPING:
            return outcome
        outcome = self._waiting.wait(
            seconds,
            is_open=partial(self._is_open, task_id, owner),
            stop=partial(self.stop, task_id, owner),
        )
        if outcome is StopOutcome.MISSING:
            # Lost by the store, but the stop was taken before.
            return StopOutcome.STOPPED if is_ours else StopOutcome.STOPPING
        return outcome

    def _is_open(self, task_id: str, owner: Owner) -> bool:
        """Tell whether the end of a task is still to come, without a write."""
        if self._running.get(task_id) is not None:
            return True
        return self._running.outcome(task_id, owner) is None and any(
            info.record.owner == owner for info in self.backend.tasks(task_id=task_id)
        )

    def stop_all(
        self, *, app: str | None, source: str | None, user: str
    ) -> list[TaskRecord]:
        """Stop every task of a user, in every worker.

        :param app: only those of this app; the same for ``source``.
        :returns: the tasks that were running or stopping.
        :raises BackendError: the store failed; those that run here are stopped.
        """
        here = self._stop_here(app, source, user)
        stopped = {record.task_id: record for record in here}
        for info in self.backend.tasks(app=app, source=source, user=user):
            outcome = self.stop(info.record.task_id, info.record.owner)
            # It may have reported its end since it was listed.
            if outcome in (StopOutcome.STOPPING, StopOutcome.STOPPED):
                stopped[info.record.task_id] = info.record
        return list(stopped.values())

    def _stop_here(
        self, app: str | None, source: str | None, user: str
    ) -> list[TaskRecord]:
        return [
            task.record
            for task in self._running.all()
            if task.record.owner.matches(app, source, user) and task.stop()
        ]

    def running(self) -> list[RunnableTask]:
        """Return the tasks that run in this process."""
        return self._running.all()

    def ended(self, task: RunnableTask, reason: EndReason) -> None:
        """Have an end reported to the store; return at once."""
        self._running.report(task, reason)
        self._reconciler.try_to_begin()

    def abandon(self, task: RunnableTask) -> None:
        """Have a task ended that nobody holds; the garbage collector may call it."""
        self._running.abandon(task)

    def close(self) -> None:
        """End what still runs as failed and report all ends; for the exit."""
        for task in self._running.all():
            try:
                task.end(EndReason.FAILED)
            except Exception as error:
                message = "The end of task %r failed."
                log(logger, logging.ERROR, message, task.record.task_id, error=error)
        self._reconciler.close()
        self.backend.close()


# A fork and the exit concern every worker of the process.
_workers: WeakSet[Worker] = WeakSet()


def _after_fork() -> None:
    for worker in list(_workers):
        worker.after_fork()


def _at_exit() -> None:
    for worker in list(_workers):
        try:
            worker.close()
        except Exception as error:
            log(logger, logging.ERROR, "A worker could not be closed.", error=error)


call_in_child(_after_fork)
atexit.register(_at_exit)

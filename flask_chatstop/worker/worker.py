"""One process of an app: its running tasks, and how a stop reaches them."""

import logging
import uuid
from functools import partial

from flask_chatstop.backends import (
    EndReason,
    Owner,
    StopBackend,
    StopOutcome,
    TaskInfo,
    TaskRecord,
)
from flask_chatstop.errors import BackendError, RecordRefused, TaskExists
from flask_chatstop.forks import notice_fork
from flask_chatstop.logs import log
from flask_chatstop.worker.announcing import announce
from flask_chatstop.worker.processes import workers
from flask_chatstop.worker.reconciler import Reconciler
from flask_chatstop.worker.running import RunnableTask, RunningTasks
from flask_chatstop.worker.time_limits import LimitedTask, TimeLimits
from flask_chatstop.worker.waiting import WaitingStops, wait_while

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
        workers.add(self)

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
        self._time_limits = TimeLimits()
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
            announce(task.record, self._reconciler, self._running)
            # After announcing: a callable that makes the engine may need the app's
            # context, which the threads do not have.
            self._reconciler.begin()
        except TaskExists:
            self._running.forget(task)
            raise
        except BaseException:  # interrupted, or no thread: the store may know it
            self.ended(task, EndReason.FAILED)
            raise

    def limit(self, task: LimitedTask, seconds: float) -> None:
        """Have a task that was started end in so many seconds, if it still runs.

        :raises RuntimeError: there are too many threads.
        """
        self._time_limits.add(task, seconds)

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

    def stop_and_wait(
        self, task_id: str, owner: Owner, seconds: float, *, is_limited: bool = True
    ) -> StopOutcome:
        """Stop a task, and wait so many seconds for its end to be reported.

        :param is_limited: whether it returns at once if too many wait already, see
            :class:`WaitingStops`.
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
            is_open=partial(self.is_open, task_id, owner),
            stop=partial(self.stop, task_id, owner),
            is_limited=is_limited,
        )
        if outcome is StopOutcome.MISSING:
            # Lost by the store, but the stop was taken before.
            return StopOutcome.STOPPED if is_ours else StopOutcome.STOPPING
        return outcome

    def is_open(self, task_id: str, owner: Owner) -> bool:
        """Tell whether the end of a task is still to come, without a write.

        :raises BackendError: the store failed, and the task does not run here.
        """
        return self.lease_left(task_id, owner) is not None

    def lease_left(self, task_id: str, owner: Owner) -> float | None:
        """Return for how many seconds a task is known, if its worker renews it no more.

        It makes no write. ``None`` means that the task has ended or is unknown.

        :raises BackendError: the store failed, and the task does not run here.
        """
        if self._running.get(task_id) is not None:
            return self.backend.lease
        if self._running.outcome(task_id, owner) is None:
            for info in self.backend.tasks(task_id=task_id):
                if info.record.owner == owner:
                    left = info.lease_left
                    return self.backend.lease if left is None else left
        return None

    def may_have_ended(self, task_id: str, owner: Owner) -> bool:
        """Tell whether a task may have ended within the retention, without a write.

        :raises BackendError: the store failed, and the task did not end here.
        """
        ended = self._running.outcome(task_id, owner) is not None
        return ended or self.backend.has_ended(task_id, owner) is not False

    def stop_all(
        self, *, app: str | None, source: str | None, user: str | None
    ) -> list[TaskRecord]:
        """Stop every task, in every worker.

        :param app: only those of this app; the same for ``source`` and ``user``.
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
        self, app: str | None, source: str | None, user: str | None
    ) -> list[TaskRecord]:
        return [
            task.record
            for task in self._running.all()
            if task.record.owner.matches(app, source, user) and task.stop()
        ]

    def tasks(
        self, *, app: str | None, source: str | None, user: str | None
    ) -> list[TaskInfo]:
        """Return the tasks of every worker; the parameters are those of `stop_all`.

        :raises BackendError: the store failed.
        """
        return self.backend.tasks(app=app, source=source, user=user)

    def running(self) -> list[RunnableTask]:
        """Return the tasks that run in this process."""
        return self._running.all()

    def ended(self, task: RunnableTask, reason: EndReason) -> None:
        """Have an end reported to the store; return at once."""
        self._time_limits.forget(task.record.task_id)
        self._running.report(task, reason)
        self._reconciler.try_to_begin()

    def flush(self, seconds: float) -> bool:
        """Wait so many seconds until the store knows all ends; tell whether it does."""
        return wait_while(lambda: self._running.has_ends, seconds)

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
        self._time_limits.close()
        self._reconciler.close()
        self.backend.close()

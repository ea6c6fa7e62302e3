"""The tasks that run in one process of an app, from their start to their end."""

import uuid

from flask_chatstop.backends import EndReason, StopBackend
from flask_chatstop.errors import TaskExists
from flask_chatstop.forks import notice_fork
from flask_chatstop.logs import get_logger
from flask_chatstop.worker.announcing import announce
from flask_chatstop.worker.processes import workers
from flask_chatstop.worker.reconciler import Reconciler
from flask_chatstop.worker.running import RunnableTask, RunningTasks
from flask_chatstop.worker.time_limits import LimitedTask, TimeLimits
from flask_chatstop.worker.waiting import wait_while

logger = get_logger(__name__)


class TaskRunner:
    """One process of an app, whose tasks the store knows.

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
                logger.error(message, task.record.task_id, exc_info=error)
        self._time_limits.close()
        self._reconciler.close()
        self.backend.close()

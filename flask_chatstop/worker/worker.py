"""How a stop reaches the tasks of all workers, and what a worker knows of them."""

from functools import partial

from flask_chatstop.backends import Owner, StopOutcome, TaskInfo, TaskRecord
from flask_chatstop.errors import BackendError, RecordRefused
from flask_chatstop.worker.runner import TaskRunner
from flask_chatstop.worker.waiting import WaitingStops


class Worker(TaskRunner):
    """One process of an app, which stops tasks wherever they run."""

    def _begin(self) -> None:
        super()._begin()
        self._waiting = WaitingStops()

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

"""The worker of an app that has chatstop switched off."""

from flask_chatstop.backends import EndReason, Owner, StopOutcome, TaskInfo, TaskRecord
from flask_chatstop.worker.running import RunnableTask
from flask_chatstop.worker.worker import Worker


class DisabledWorker(Worker):
    """Knows the tasks of this process, and has neither a store nor threads.

    Only a time limit needs one.
    """

    def start(self, task: RunnableTask) -> None:
        self._running.add(task)
        self._running.announced(task.record)

    def stop(self, task_id: str, owner: Owner) -> StopOutcome:
        task = self._running.get(task_id)
        if task is not None and task.record.owner == owner and task.stop():
            return StopOutcome.STOPPING
        return StopOutcome.MISSING

    def is_open(self, task_id: str, owner: Owner) -> bool:
        return self._running.get(task_id) is not None

    def stop_all(
        self, *, app: str | None, source: str | None, user: str | None
    ) -> list[TaskRecord]:
        return self._stop_here(app, source, user)

    def tasks(
        self, *, app: str | None, source: str | None, user: str | None
    ) -> list[TaskInfo]:
        infos = [task.info() for task in self._running.all()]
        found = [info for info in infos if info.record.owner.matches(app, source, user)]
        return sorted(found, key=lambda info: -info.age)

    def ended(self, task: RunnableTask, reason: EndReason) -> None:
        self._time_limits.forget(task.record.task_id)
        self._running.forget(task)

    def abandon(self, task: RunnableTask) -> None:
        task.end(EndReason.FAILED)

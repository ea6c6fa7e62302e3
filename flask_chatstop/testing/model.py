"""The model that the contract of backends compares a backend with."""

import uuid
from dataclasses import replace

from hypothesis import strategies
from hypothesis.stateful import RuleBasedStateMachine, rule

from flask_chatstop.backends import (
    EndReason,
    Owner,
    StopBackend,
    StopOutcome,
    TaskRecord,
)
from flask_chatstop.testing.tasks import ALICE, BOB, new_worker


class Model:
    """The simplest store: one dictionary, no times, no threads."""

    def __init__(self) -> None:
        self.tasks: dict[str, tuple[TaskRecord, str]] = {}

    def announce(self, record: TaskRecord) -> bool:
        if record.task_id in self.tasks:
            return False
        self.tasks[record.task_id] = (record, "running")
        return True

    def renew(self, record: TaskRecord) -> set[str]:
        self.announce(record)
        known, state = self.tasks[record.task_id]
        is_open = state in ("running", "stopping")
        is_ours = is_open and known.worker_id == record.worker_id
        return set() if is_ours else {record.task_id}

    def stop(self, task_id: str, owner: Owner) -> StopOutcome:
        record, state = self.tasks.get(task_id, (None, ""))
        if record is None or record.owner != owner:
            return StopOutcome.MISSING
        if state == "running":
            self.tasks[task_id] = (record, "stopping")
        if state in ("running", "stopping"):
            return StopOutcome.STOPPING
        return StopOutcome.STOPPED if state == "stopped" else StopOutcome.ENDED

    def end(self, record: TaskRecord, reason: EndReason) -> bool:
        known, state = self.tasks.get(record.task_id, (None, ""))
        is_over = state not in ("running", "stopping")
        if known and known.worker_id == record.worker_id and not is_over:
            self.tasks[record.task_id] = (known, reason.value)
            return True
        return False

    def stops(self, worker_id: str) -> set[str]:
        return {
            record.task_id
            for record, state in self.tasks.values()
            if state == "stopping" and record.worker_id == worker_id
        }


def against_a_model(backend: StopBackend) -> type[RuleBasedStateMachine]:
    """Return what calls a backend in any order, and compares it with the model."""
    workers = [new_worker() for _ in range(2)]
    records = strategies.builds(
        TaskRecord,
        strategies.sampled_from(["one", "two", "three"]),
        strategies.sampled_from([ALICE, BOB]),
        strategies.sampled_from(workers),
    )

    class Machine(RuleBasedStateMachine):
        """Calls a backend and the model alike, and compares what they return."""

        def __init__(self) -> None:
            super().__init__()
            self.model = Model()
            self.run = uuid.uuid4().hex

        def of_this_run(self, record: TaskRecord) -> TaskRecord:
            return replace(record, task_id=f"{self.run}-{record.task_id}")

        @rule(record=records)
        def announce(self, record: TaskRecord) -> None:
            record = self.of_this_run(record)
            assert backend.announce(record) == self.model.announce(record)

        @rule(record=records)
        def renew(self, record: TaskRecord) -> None:
            record = self.of_this_run(record)
            assert backend.renew([record]) == self.model.renew(record)

        @rule(record=records)
        def stop(self, record: TaskRecord) -> None:
            record = self.of_this_run(record)
            found = backend.stop(record.task_id, record.owner)
            assert found is self.model.stop(record.task_id, record.owner)

        @rule(record=records, reason=strategies.sampled_from(EndReason))
        def end(self, record: TaskRecord, reason: EndReason) -> None:
            record = self.of_this_run(record)
            assert backend.end(record, reason) == self.model.end(record, reason)

        @rule(worker_id=strategies.sampled_from(workers))
        def stops(self, worker_id: str) -> None:
            found = backend.stops(worker_id, list(self.model.tasks))
            assert found == self.model.stops(worker_id)

    return Machine

"""A store that refuses one record, and goes on with all others."""

from collections.abc import Iterator, Sequence

import pytest

from flask_chatstop import EndReason, RecordRefused, StopOutcome, TaskRecord
from flask_chatstop.testing import ALICE, wait_until
from flask_chatstop.worker import Worker
from tests.support.faulty_worker import FaultyBackend, Task, begin


class Picky(FaultyBackend):
    """A store with a rule of its own, as a CHECK constraint is."""

    def __init__(self) -> None:
        super().__init__(lease=0.5)
        self.refused: set[str] = set()
        self.renewals = 0

    def _check(self, *records: TaskRecord) -> None:
        self._call()
        for record in records:
            if record.task_id in self.refused:
                raise RecordRefused("the user is too long")

    def announce(self, record: TaskRecord) -> bool:
        self._check(record)
        return super().announce(record)

    def renew(self, records: Sequence[TaskRecord]) -> set[str]:
        self._check(*records)
        self.renewals += 1
        return super().renew(records)

    def end(self, record: TaskRecord, reason: EndReason) -> bool:
        self._check(record)
        return super().end(record, reason)


@pytest.fixture
def picky() -> Picky:
    return Picky()


@pytest.fixture
def worker(picky: Picky) -> Iterator[Worker]:
    worker = Worker(picky, sweep_interval=0.1)
    yield worker
    picky.timeout = 0.1  # a task that the test has dropped would be waited for
    worker.close()


def begin_refused(worker: Worker, picky: Picky) -> Task:
    task = Task(worker)
    picky.refused.add(task.record.task_id)
    worker.start(task)
    return task


def lines(log: pytest.LogCaptureFixture) -> list[str]:
    """Give what was logged of the store, and not of the listener."""
    return [x.getMessage() for x in log.records if "doorbell" not in x.getMessage()]


def test_a_refused_task_runs_on_and_its_worker_is_not_blind(
    picky: Picky, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = Worker(picky)
    refused, other = begin_refused(worker, picky), begin(worker)
    renewals = picky.renewals
    wait_until(lambda: picky.renewals >= renewals + 3)
    assert elsewhere.stop(refused.record.task_id, ALICE) is StopOutcome.MISSING
    assert worker.stop(refused.record.task_id, ALICE) is StopOutcome.STOPPING
    # On a busy machine its lease may be over until its worker renews it again.
    wait_until(
        lambda: elsewhere.stop(other.record.task_id, ALICE) is StopOutcome.STOPPING
    )
    assert other.stopped.wait(5)
    for task in (refused, other):
        task.end(EndReason.STOPPED)
    wait_until(lambda: worker._running.is_idle)
    [line] = lines(caplog)
    assert repr(refused.record.task_id) in line and "too long" in line


def test_a_record_that_is_refused_after_an_outage_harms_no_other(
    picky: Picky, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = Worker(picky)
    picky.is_cut = True
    refused = [begin_refused(worker, picky) for _ in range(2)]
    others = [begin(worker) for _ in range(9)]
    refused[1].end(EndReason.FINISHED)
    picky.is_cut = False
    for task in others:
        wait_until(
            lambda: (
                elsewhere.stop(task.record.task_id, ALICE)  # noqa: B023
                is StopOutcome.STOPPING
            )
        )
        assert task.stopped.wait(5)
    wait_until(lambda: any("Found the store" in line for line in lines(caplog)))
    assert sum("refuses task" in line for line in lines(caplog)) == 2
    assert sum("Lost the store" in line for line in lines(caplog)) == 1


def test_a_record_that_is_not_refused_any_more_is_known(
    picky: Picky, worker: Worker
) -> None:
    elsewhere = Worker(picky)
    task = begin_refused(worker, picky)
    picky.refused.clear()
    wait_until(
        lambda: elsewhere.stop(task.record.task_id, ALICE) is StopOutcome.STOPPING
    )
    assert task.stopped.wait(5)


def test_an_end_that_is_refused_is_let_go(
    picky: Picky, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    task, other = begin(worker), begin(worker)
    picky.refused.add(task.record.task_id)
    for each in (task, other):
        each.end(EndReason.FINISHED)
    wait_until(lambda: worker._running.is_idle)
    assert worker.stop(other.record.task_id, ALICE) is StopOutcome.ENDED
    assert len(lines(caplog)) == 1

"""What a worker logs of a task whose id a client has chosen."""

from collections.abc import Callable, Sequence

import pytest

from flask_chatstop import (
    EndReason,
    MemoryBackend,
    RecordRefused,
    TaskExists,
    TaskRecord,
)
from flask_chatstop.testing import new_record, wait_until
from flask_chatstop.worker import Worker
from tests.support.faulty_worker import FaultyBackend, Task

FORGED = "id\nERROR: forged\r\x1b[2J"


class Refusing(MemoryBackend):
    """A store that refuses every record, with words that quote it."""

    def announce(self, record: TaskRecord) -> bool:
        raise RecordRefused(f"not {record.task_id}")

    def renew(self, records: Sequence[TaskRecord]) -> set[str]:
        raise RecordRefused(f"not {records[0].task_id}")


class Stubborn(Task):
    """A task whose stop and end fail."""

    def stop(self) -> bool:
        raise LookupError("no such thing")

    def end(self, reason: EndReason, error: BaseException | None = None) -> bool:
        super().end(reason, error)
        raise LookupError("no such thing")


def log_a_refused_record() -> None:
    worker = Worker(Refusing())
    task = Task(worker, FORGED)
    worker.start(task)
    task.end(EndReason.FINISHED)
    worker.close()


def log_a_store_that_is_away() -> None:
    backend = FaultyBackend()
    worker = Worker(backend)
    backend.is_cut = True
    task = Task(worker, FORGED)
    worker.start(task)
    backend.is_cut = False
    task.end(EndReason.FINISHED)
    worker.close()


def log_an_id_that_is_taken() -> None:
    backend = FaultyBackend()
    worker = Worker(backend)
    backend.is_cut = True
    task = Task(worker, FORGED)
    worker.start(task)
    backend.is_cut = False
    backend.announce(new_record(task_id=FORGED))
    wait_until(lambda: task.reason is EndReason.FAILED)
    worker.close()


def log_what_a_task_raises() -> None:
    worker = Worker(FaultyBackend())
    task = Stubborn(worker, FORGED)
    worker.start(task)
    worker._running.stop([FORGED])
    worker.close()


@pytest.mark.parametrize(
    ("act", "lines"),
    [
        (log_a_refused_record, 1),
        (log_a_store_that_is_away, 2),
        (log_an_id_that_is_taken, 3),
        (log_what_a_task_raises, 2),
    ],
)
def test_a_task_id_writes_no_line_of_its_own_into_a_workers_log(
    act: Callable[[], None], lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    act()
    messages = [record.getMessage() for record in caplog.records]
    assert sum("ERROR: forged" in message for message in messages) >= 1
    assert len(messages) >= lines
    for message in messages:
        assert message.isprintable()


def test_an_id_that_is_taken_is_escaped_in_the_error() -> None:
    worker = Worker(MemoryBackend())
    task = Task(worker, FORGED)
    worker.start(task)
    for taken in ("running", "not reported"):
        with pytest.raises(TaskExists, match=taken) as raised:
            worker.start(Task(worker, FORGED))
        assert str(raised.value).isprintable()
        worker.ended(task, EndReason.FINISHED)
    with pytest.raises(TaskExists, match="is taken") as raised:
        Worker(worker.backend).start(Task(worker, FORGED))
    assert str(raised.value).isprintable()
    worker.close()

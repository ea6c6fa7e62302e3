"""A worker whose store can be cut off, and tasks as far as a worker knows them."""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence

import pytest

from flask_chatstop import (
    BackendError,
    EndReason,
    MemoryBackend,
    Owner,
    StopOutcome,
    TaskInfo,
    TaskRecord,
)
from flask_chatstop.testing import new_record
from flask_chatstop.worker import Worker


class FaultyBackend(MemoryBackend):
    """A store that can be cut off, or whose notifications are lost."""

    is_cut = False
    is_deaf = False

    def _call(self) -> None:
        if self.is_cut:
            raise BackendError("the store is cut off")

    def announce(self, record: TaskRecord) -> bool:
        self._call()
        return super().announce(record)

    def renew(self, records: Sequence[TaskRecord]) -> set[str]:
        self._call()
        return super().renew(records)

    def stop(self, task_id: str, owner: Owner) -> StopOutcome:
        self._call()
        return super().stop(task_id, owner)

    def end(self, record: TaskRecord, reason: EndReason) -> bool:
        self._call()
        return super().end(record, reason)

    def stops(self, worker_id: str, task_ids: Collection[str]) -> set[str]:
        self._call()
        return super().stops(worker_id, task_ids)

    def check(self) -> None:
        self._call()

    def listen(
        self,
        worker_id: str,
        running: Callable[[], Collection[str]],
        heard: Callable[[Collection[str]], None],
        closing: threading.Event,
    ) -> None:
        if self.is_deaf:
            closing.wait()
        else:
            super().listen(worker_id, running, heard, closing)


class Task:
    """A generation, as far as the worker needs to know it."""

    def __init__(self, worker: Worker, task_id: str | None = None) -> None:
        self.record = new_record(task_id=task_id, worker_id=worker.id)
        self.worker = worker
        self.stopped = threading.Event()
        self.reason: EndReason | None = None

    def stop(self) -> bool:
        self.stopped.set()
        return self.reason is None

    def end(self, reason: EndReason, error: BaseException | None = None) -> bool:
        self.reason = reason
        self.worker.ended(self, reason)
        return True

    def info(self) -> TaskInfo:
        return TaskInfo(self.record, self.stopped.is_set(), 0.0)


@pytest.fixture
def backend() -> FaultyBackend:
    return FaultyBackend(lease=1.0)


@pytest.fixture
def worker(backend: FaultyBackend) -> Iterator[Worker]:
    worker = Worker(backend, sweep_interval=0.2)
    yield worker
    backend.timeout = 0.1  # a task that the test has dropped would be waited for
    worker.close()


@pytest.fixture
def elsewhere(backend: FaultyBackend) -> Worker:
    return Worker(backend, sweep_interval=0.2)


def begin(worker: Worker) -> Task:
    task = Task(worker)
    worker.start(task)
    return task

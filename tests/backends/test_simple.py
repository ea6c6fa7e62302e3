import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from flask_chatstop import (
    BackendError,
    EndReason,
    SimpleBackend,
    StopOutcome,
    TaskEntry,
    TaskRecord,
)
from flask_chatstop.testing import (
    ALICE,
    BOB,
    BackendContract,
    new_record,
    new_worker,
)
from tests.support.paths import ROOT
from tests.support.simple_stores import DictBackend, WatchBackend, file_backend

# Four processes announce, stop and end the same tasks at the same time.
RACE = """
import sys
from pathlib import Path
from flask_chatstop import EndReason
from flask_chatstop.testing import ALICE, new_record
from tests.support.simple_stores import WatchBackend, file_backend

store, name, worker_id = sys.argv[1:]
if name:
    backend = WatchBackend(store, prefix=name, timeout=20)
else:
    backend = file_backend(Path(store), timeout=20)
records = [
    new_record(task_id=f"task-{number}", worker_id=worker_id) for number in range(50)
]
print("ready", flush=True)
sys.stdin.readline()
won = [record for record in records if backend.announce(record)]
for record in records:
    backend.stop(record.task_id, ALICE)
for record in records:
    backend.end(record, EndReason.STOPPED)
print(len(won), flush=True)
"""


class TestOnADictionary(BackendContract):
    is_shared = False

    def open_backend(self, **options: Any) -> DictBackend:
        return DictBackend(**options)


class TestOnAFile(BackendContract):
    @pytest.fixture(autouse=True)
    def _use(self, tmp_path: Path) -> None:
        self.path = tmp_path / "chatstop.db"

    def open_backend(self, **options: Any) -> SimpleBackend:
        # Of a hundred threads that SQLite lets wait, it may forget one for long.
        return file_backend(self.path, **{"timeout": 20.0, **options})


class TestOnRedis(BackendContract):
    @pytest.fixture(autouse=True)
    def _use(self, redis_url: str, redis_prefix: str) -> None:
        self.url, self.prefix = redis_url, redis_prefix

    def open_backend(self, **options: Any) -> SimpleBackend:
        # A hundred threads that swap one entry lose many races.
        return WatchBackend(self.url, prefix=self.prefix, **{"timeout": 10.0} | options)


@pytest.fixture
def backend() -> DictBackend:
    return DictBackend(lease=60, retention=600)


@pytest.fixture(params=["file", "redis"])
def shared(
    request: pytest.FixtureRequest, tmp_path: Path
) -> tuple[SimpleBackend, list[str]]:
    """Open a store that processes share, and say how to open it again."""
    if request.param == "file":
        path = tmp_path / "chatstop.db"
        return file_backend(path), [str(path), ""]
    url: str = request.getfixturevalue("redis_url")
    prefix: str = request.getfixturevalue("redis_prefix")
    return WatchBackend(url, prefix=prefix), [url, prefix]


def test_processes_that_change_the_same_tasks_at_once_lose_nothing(
    shared: tuple[SimpleBackend, list[str]],
) -> None:
    backend, arguments = shared
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, *arguments, new_worker()],
            cwd=ROOT,
            stdin=pipe,
            stdout=pipe,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    answers = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        answers.append(process.communicate(timeout=60)[0])
        assert process.returncode == 0
    assert sum(map(int, answers)) == 50
    for number in range(50):
        assert backend.stop(f"task-{number}", ALICE) is StopOutcome.STOPPED


def test_an_entry_survives_its_json() -> None:
    record = TaskRecord("ü😀", BOB._replace(user='"\\'), new_worker())
    entry = TaskEntry(record, "stopping", 0.1 + 0.2, 1e9 + 1e-6, 1e9)
    assert TaskEntry.from_json(entry.to_json()) == entry
    assert TaskEntry.from_json(entry.to_json().encode()) == entry
    assert entry.to_json().isascii()


def test_a_stop_that_outlives_its_lease_is_for_its_own_task_only(
    backend: DictBackend,
) -> None:
    record = new_record()
    backend.announce(record)
    backend.stop(record.task_id, ALICE)
    backend.later = 61
    assert backend.stop(record.task_id, ALICE) is StopOutcome.MISSING
    thief = new_record(task_id=record.task_id, owner=BOB, worker_id=record.worker_id)
    backend.renew([thief])
    assert backend.stops(record.worker_id, [record.task_id]) == set()
    assert backend.stop(record.task_id, BOB) is StopOutcome.STOPPING


def test_a_stop_is_forgotten_a_retention_after_its_lease(backend: DictBackend) -> None:
    record = new_record()
    backend.announce(record)
    backend.stop(record.task_id, ALICE)
    backend.later = 661
    backend.renew([record])
    assert backend.stops(record.worker_id, [record.task_id]) == set()


def test_old_entries_are_purged_and_those_that_a_worker_may_come_back_to_are_not(
    backend: DictBackend,
) -> None:
    ended, lapsed, stopped, running = (new_record() for _ in range(4))
    for record in (ended, lapsed, stopped):
        backend.announce(record)
    backend.stop(stopped.task_id, ALICE)
    backend.end(ended, EndReason.FINISHED)
    backend._purge_at = 0.0
    backend.later = 601
    backend.announce(running)
    backend.end(running, EndReason.FINISHED)
    assert set(backend.stored) == {stopped.task_id, running.task_id}


def test_only_the_stop_that_changes_the_state_notifies() -> None:
    notified = []

    class Pushing(DictBackend):
        def notify(self, record: TaskRecord) -> None:
            notified.append(record)

    backend, record = Pushing(), new_record()
    backend.announce(record)
    backend.stop(record.task_id, BOB)
    for _ in range(3):
        backend.stop(record.task_id, ALICE)
    assert notified == [record]


def test_a_stop_counts_even_if_the_worker_cannot_be_notified(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Unheard(DictBackend):
        def notify(self, record: TaskRecord) -> None:
            raise BackendError("no bus")

    backend, record = Unheard(), new_record()
    backend.announce(record)
    assert backend.stop(record.task_id, ALICE) is StopOutcome.STOPPING
    assert backend.stops(record.worker_id, [record.task_id]) == {record.task_id}
    assert "no bus" in caplog.text


def test_a_renewal_that_takes_too_long_says_so(
    backend: DictBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = count()
    monkeypatch.setattr("time.monotonic", lambda: float(next(seconds)))
    records = [new_record() for _ in range(10)]
    with pytest.raises(BackendError, match="Only 2 of 10 tasks"):
        backend.renew(records)


def test_the_last_call_of_a_repeated_change_counts() -> None:
    class Racing(DictBackend):
        def change(
            self, task_id: str, fn: Callable[[TaskEntry | None], TaskEntry | None]
        ) -> None:
            fn(None)  # lost the race
            super().change(task_id, fn)

    backend, record = Racing(), new_record()
    assert backend.announce(record) is True
    assert backend.announce(record) is False
    assert backend.stop(record.task_id, ALICE) is StopOutcome.STOPPING


def test_the_check_leaves_nothing_behind(backend: DictBackend) -> None:
    backend.check()
    assert backend.stored == {}


def test_its_cost_can_be_measured(redis_url: str) -> None:
    measured = subprocess.run(
        [sys.executable, "-m", "benchmarks.rows.simple_backend", "--rounds", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert measured.stdout.count("`stop`") == 2, measured.stderr

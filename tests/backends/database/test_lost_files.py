"""A SQLite file that is deleted or replaced under running workers."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE

import pytest

from flask_chatstop import BackendError
from flask_chatstop.backends.database import DatabaseBackend
from flask_chatstop.testing import wait_until
from tests.support.worker_app import WorkerApp


@pytest.fixture
def open_worker_app(sqlite_url: str) -> Iterator[Callable[[], WorkerApp]]:
    worker_apps: list[WorkerApp] = []

    def open_worker_app() -> WorkerApp:
        worker_apps.append(WorkerApp(sqlite_url, sweep_interval=1.0))
        return worker_apps[-1]

    yield open_worker_app
    for worker_app in worker_apps:
        worker_app.close()


def delete(path: Path) -> None:
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink()


def replace(path: Path) -> None:
    other = path.with_name("other.db")
    sqlite3.connect(other).close()
    delete(path)
    os.replace(other, path)


def replace_by_a_file_that_has_the_table(path: Path) -> None:
    other = path.with_name("other.db")
    with sqlite3.connect(path) as old, sqlite3.connect(other) as new:
        old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        old.backup(new)
        new.execute("DELETE FROM chatstop_task")
    old.close()
    new.close()
    os.replace(other, path)


_HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("SELECT * FROM chatstop_task").fetchall()
print("open", flush=True)
sys.stdin.read()
"""


def test_a_file_that_was_deleted_alone_says_what_else_to_delete(
    tmp_path: Path, sqlite_url: str
) -> None:
    path = tmp_path / "chatstop.db"
    DatabaseBackend(sqlite_url).check()
    command = [sys.executable, "-c", _HOLD, str(path)]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        path.unlink()
        backend = DatabaseBackend(sqlite_url)
        with pytest.raises(BackendError, match="-wal and -shm"):
            backend.check()
        delete(path)
        backend.check()
        holder.communicate()


@pytest.mark.parametrize(
    "harm", [delete, replace, replace_by_a_file_that_has_the_table]
)
def test_old_and_new_workers_know_each_others_tasks(
    harm: Callable[[Path], None],
    open_worker_app: Callable[[], WorkerApp],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    old = open_worker_app()
    before, silent = old.chat(), old.chat()
    harm(tmp_path / "chatstop.db")
    new = open_worker_app()
    meanwhile = new.chat()
    wait_until(lambda: new.stop(before).status_code == 200)
    assert before.ended.wait(10)
    wait_until(lambda: new.can_stop(silent))
    assert old.can_stop(meanwhile)
    lines = [record.getMessage() for record in caplog.records]
    assert any("was deleted or replaced" in line for line in lines)

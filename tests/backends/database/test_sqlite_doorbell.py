"""The socket beside a SQLite file: who is rung, and that no file is left behind."""

import gc
import os
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from flask_chatstop import StopOutcome
from flask_chatstop.backends.database import DatabaseBackend
from flask_chatstop.backends.database.sqlite_doorbell import Doorbell, Ringer
from flask_chatstop.testing import ALICE, listening, new_record, wait_until

Open = Callable[..., DatabaseBackend]

pytestmark = pytest.mark.skipif(
    not hasattr(socket, "AF_UNIX"), reason="there are no Unix sockets"
)

#: Ends without a word to anybody, when it is told to.
KILLED = """
import os, signal, sys, threading
from flask_chatstop.backends.database import DatabaseBackend
from flask_chatstop.testing import new_record

backend = DatabaseBackend(sys.argv[1])
ready = threading.Event()
arguments = ("killed", list, lambda _: ready.set(), threading.Event())
threading.Thread(target=backend.listen, args=arguments, daemon=True).start()
assert ready.wait(10)
print(os.listdir(os.path.dirname(sys.argv[2])), flush=True)
if sys.argv[3] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
"""

RINGING = """
import sys
from flask_chatstop.backends.database.sqlite_doorbell import Ringer
Ringer(sys.argv[1]).ring(*sys.argv[2:])
"""

GREENLETS = """
from gevent import monkey
monkey.patch_all()
import os, sys, threading, time
from flask_chatstop.backends.database import DatabaseBackend
from flask_chatstop.testing import ALICE, listening, new_record, wait_until

backend = DatabaseBackend(sys.argv[1])
records = [new_record(worker_id="mine") for _ in range(20)]
for record in records:
    backend.announce(record)
with listening(backend, records) as bell:
    child = os.fork()
    if child == 0:
        time.sleep(0.5)  # in which the listener's greenlet goes on, in the child too
        os._exit(0)
    for record in records:
        backend.stop(record.task_id, ALICE)
        assert bell.get(timeout=5) == record.task_id
    os.waitpid(child, 0)
    assert sum("-ring-" in name for name in os.listdir(sys.argv[2])) == 1
print("all were heard")
"""


@pytest.fixture
def database(tmp_path: Path, open_backend: Open) -> Path:
    path = tmp_path / "chatstop.db"
    open_backend(f"sqlite:///{path}").check()
    return path


@pytest.fixture
def backend(database: Path, open_backend: Open) -> DatabaseBackend:
    return open_backend(f"sqlite:///{database}")


@contextmanager
def doorbell(path: Path, worker_id: str) -> Iterator[Doorbell]:
    bell = Doorbell(str(path), worker_id)
    try:
        yield bell
    finally:
        bell.close()


def ring(path: Path, worker_id: str, task_id: str) -> None:
    with closing(Ringer(str(path))) as ringer:
        ringer.ring(worker_id, task_id)


def sockets(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_socket()]


def run(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode in (0, -9), done.stderr
    return done.stdout


# who is rung


def test_a_stop_rings_the_worker_of_its_task_and_no_other(
    backend: DatabaseBackend, database: Path
) -> None:
    record = new_record(worker_id="one")
    backend.announce(record)
    with doorbell(database, "one") as one, doorbell(database, "other") as other:
        assert backend.stop(record.task_id, ALICE) is StopOutcome.STOPPING
        assert one.wait(5) == record.task_id
        assert other.more() == []


def test_a_stop_that_finds_nothing_to_stop_rings_nobody(
    backend: DatabaseBackend, database: Path
) -> None:
    with doorbell(database, "one") as one:
        assert backend.stop("unknown", ALICE) is StopOutcome.MISSING
        assert one.more() == []


def test_a_stop_is_written_when_it_rings(
    backend: DatabaseBackend, database: Path
) -> None:
    record = new_record(worker_id="one")
    backend.announce(record)
    found: list[str] = []
    with doorbell(database, "one") as one, sqlite3.connect(database) as other:

        def look() -> None:
            task_id = one.wait(5)
            query = "SELECT state FROM chatstop_task WHERE task_id = ?"
            found.extend(other.execute(query, [task_id]).fetchone())

        ringing = threading.Thread(target=backend.stop, args=[record.task_id, ALICE])
        ringing.start()
        look()
        ringing.join()
    other.close()
    assert found == ["stopping"]


def test_a_full_queue_loses_no_stop(backend: DatabaseBackend) -> None:
    records = [new_record(worker_id="one") for _ in range(300)]
    backend.renew(records)
    heard: set[str] = set()
    goes_on, closing = threading.Event(), threading.Event()

    def hear(task_ids: set[str]) -> None:
        heard.update(task_ids)
        if task_ids:
            goes_on.wait(10)

    ids = [record.task_id for record in records]
    listener = threading.Thread(
        target=backend.listen, args=("one", lambda: ids, hear, closing)
    )
    listener.start()
    for task_id in ids:
        backend.stop(task_id, ALICE)
    goes_on.set()
    wait_until(lambda: heard == set(ids))
    closing.set()
    listener.join()


@pytest.mark.parametrize("harm", ["no sockets", "long name"])
def test_where_no_socket_can_be_bound_the_file_is_watched(
    harm: str, tmp_path: Path, open_backend: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    if harm == "no sockets":  # as on Windows
        monkeypatch.delattr(socket, "AF_UNIX")
        backend = open_backend(f"sqlite:///{tmp_path}/chatstop.db")
    else:
        # Deeper than an address reaches, on a system without /proc.
        monkeypatch.setattr(
            "flask_chatstop.backends.database.socket_folder._PROC", b"/nowhere"
        )
        folder = tmp_path / ("long" * 30)
        folder.mkdir()
        backend = open_backend(f"sqlite:///{folder}/chatstop.db")
    record = new_record()
    backend.announce(record)
    with listening(backend, [record]) as bell:
        assert not any(path.is_socket() for path in tmp_path.rglob("*"))
        backend.stop(record.task_id, ALICE)
        assert bell.get(timeout=5) == record.task_id


def test_what_is_written_by_others_is_heard_too(
    backend: DatabaseBackend, database: Path
) -> None:
    record = new_record()
    backend.announce(record)
    with listening(backend, [record]) as bell, sqlite3.connect(database) as other:
        other.execute("UPDATE chatstop_task SET state = 'stopping'")
        other.commit()
        assert bell.get(timeout=5) == record.task_id
    other.close()


@pytest.mark.parametrize("length", [60, 90, 107, 108, 300])
def test_a_path_of_any_length_has_a_doorbell(length: int, tmp_path: Path) -> None:
    folder = tmp_path
    while len(str(folder)) < length:
        folder /= "x" * max(1, min(50, length - len(str(folder)) - 1))
    folder.mkdir(parents=True, exist_ok=True)
    database = folder / ("d" * 240)
    database.touch()
    with doorbell(database, "worker") as bell:
        ring(database, "worker", "task")
        assert bell.wait(5) == "task"
    assert sockets(folder) == []


def test_any_worker_id_has_a_name_of_its_own(database: Path) -> None:
    ids = ["", "../../outside", "a/b", "\N{GRINNING FACE}" * 255, "A", "a"]
    bells = [Doorbell(str(database), worker_id) for worker_id in ids]
    for worker_id in ids:
        ring(database, worker_id, f"task of {worker_id}")
    for worker_id, bell in zip(ids, bells, strict=True):
        assert bell.wait(5) == f"task of {worker_id}"
        bell.close()


def test_databases_in_one_directory_have_doorbells_of_their_own(
    tmp_path: Path,
) -> None:
    paths = [tmp_path / ("d" * 100 + end) for end in ("1", "2")]
    for path in paths:
        path.touch()
    with doorbell(paths[0], "me") as first, doorbell(paths[1], "me") as second:
        ring(paths[1], "me", "task")
        assert second.wait(5) == "task"
        assert first.more() == []


def test_another_container_on_the_volume_rings(database: Path) -> None:
    with doorbell(database, "worker") as bell:
        command = ["unshare", "--net", "--ipc", sys.executable, "-c", RINGING]
        subprocess.run([*command, str(database), "worker", "task"], check=True)
        assert bell.wait(5) == "task"


# no file is left, and none is removed that is in use


def test_a_listener_that_ends_leaves_no_file(
    backend: DatabaseBackend, tmp_path: Path
) -> None:
    with listening(backend, [new_record()]):
        assert len(sockets(tmp_path)) == 1
    assert sockets(tmp_path) == []


def test_a_process_that_ends_leaves_no_file(database: Path) -> None:
    listed = run(KILLED, f"sqlite:///{database}", str(database), "end")
    assert "-ring-" in listed
    assert sockets(database.parent) == []


def test_who_rings_a_killed_worker_removes_its_file(
    backend: DatabaseBackend, database: Path
) -> None:
    record = new_record(worker_id="killed")
    backend.announce(record)
    run(KILLED, f"sqlite:///{database}", str(database), "kill")
    assert len(sockets(database.parent)) == 1
    assert backend.stop(record.task_id, ALICE) is StopOutcome.STOPPING
    assert sockets(database.parent) == []


def test_a_worker_that_begins_removes_the_files_of_killed_ones_alone(
    database: Path,
) -> None:
    Doorbell(str(database), "killed").leave()
    other = database.with_name("other.db")
    other.touch()
    plain = database.with_name("chatstop.db-ring-notes")
    plain.write_text("not a socket")
    with doorbell(database, "lives") as lives, doorbell(other, "lives") as others:
        assert len(sockets(database.parent)) == 2
        with doorbell(database, "new"):
            assert len(sockets(database.parent)) == 3
        ring(database, "lives", "task")
        assert lives.wait(5) == "task"
        assert others.more() == []
    assert plain.exists()


def test_one_that_is_being_hung_is_not_removed(database: Path) -> None:
    name = database.with_name("chatstop.db-ring-0123.new")
    half = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    half.bind(str(name))
    half.close()  # as refusing as one that is not bound yet
    with doorbell(database, "new"):
        assert name.exists()


def test_a_new_doorbell_of_a_worker_replaces_the_old_one(database: Path) -> None:
    old = Doorbell(str(database), "worker")
    with doorbell(database, "worker") as new:
        old.close()
        ring(database, "worker", "task")
        assert new.wait(5) == "task"


def test_a_listener_whose_file_was_removed_makes_another(
    backend: DatabaseBackend, tmp_path: Path
) -> None:
    record = new_record()
    backend.announce(record)
    with listening(backend, [record]) as bell:
        for path in sockets(tmp_path):
            path.unlink()
        wait_until(lambda: len(sockets(tmp_path)) == 1)
        backend.stop(record.task_id, ALICE)
        assert bell.get(timeout=5) == record.task_id


def test_a_listener_whose_file_is_removed_as_it_begins_makes_another(
    backend: DatabaseBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = Ringer.ring
    removed: list[Path] = []

    def ring_too_late(self: Ringer, listener: str, news: str = "") -> None:
        if not removed:
            removed.extend(sockets(tmp_path))
            removed[0].unlink()
        ring(self, listener, news)

    monkeypatch.setattr(Ringer, "ring", ring_too_late)
    record = new_record()
    with listening(backend, [record]):
        assert removed
        wait_until(lambda: len(sockets(tmp_path)) == 1)


def test_a_directory_that_is_moved_keeps_no_file(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    (old / "chatstop.db").touch()
    with doorbell(old / "chatstop.db", "worker"):
        old.rename(new)
        assert len(sockets(new)) == 1
    assert sockets(new) == []


# who may ring


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o644, 0o666, 0o400])
def test_who_may_write_to_the_file_may_ring_and_nobody_else(
    mode: int, database: Path
) -> None:
    database.chmod(mode)
    before = os.umask(0)
    try:
        with doorbell(database, "worker"):
            [path] = sockets(database.parent)
            found = stat.S_IMODE(path.stat().st_mode)
    finally:
        os.umask(before)
    assert found & 0o022 == mode & 0o022
    assert found & 0o111 == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_doorbell_that_root_hangs_is_the_owners_of_the_file(database: Path) -> None:
    os.chown(database, 12, 34)
    with doorbell(database, "worker"):
        [path] = sockets(database.parent)
        assert (path.stat().st_uid, path.stat().st_gid) == (12, 34)


# greenlets and forks


def test_a_fork_under_gevent_takes_no_ring_away(database: Path) -> None:
    assert "all were heard" in run(
        GREENLETS, f"sqlite:///{database}", str(database.parent)
    )


def test_a_ringer_that_nobody_has_closed_leaves_no_socket_open(tmp_path: Path) -> None:
    ringer = Ringer(str(tmp_path / "chatstop.db"))
    ringer.ring("worker")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del ringer
        gc.collect()
    assert not [each for each in caught if each.category is ResourceWarning]


def test_news_that_are_too_long_for_a_datagram_ring_all_the_same(
    database: Path,
) -> None:
    path = str(database)
    with closing(Doorbell(path, "mine")) as doorbell, closing(Ringer(path)) as ringer:
        ringer.ring("mine", "x" * 50_000_000)
        begun = time.monotonic()
        assert doorbell.wait(20.0) == ""
        assert time.monotonic() - begun < 10

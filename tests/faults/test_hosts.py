"""Hosts with a wrong clock or a full disk, and a store that is none for several."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from flask_chatstop import StopOutcome
from flask_chatstop.backends import backend_from_url
from flask_chatstop.testing import ALICE, new_record, wait_until
from tests.faults.clock import build_clock
from tests.faults.deployment import LEASE, Deployment, deployment
from tests.faults.stores import Store


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    return build_clock(tmp_path)


def test_a_clock_two_hours_off_changes_no_lease_no_stop_and_no_truth(
    store: Store, clock: Path, tmp_path: Path
) -> None:
    with ExitStack() as stack:

        def on_host(hours: int) -> Deployment:
            directory = tmp_path / f"{hours}"
            shift = {"LD_PRELOAD": str(clock), "CLOCK_OFF_BY": str(3600 * hours)}
            return stack.enter_context(deployment(directory, store.url, **shift))

        late, right, early = (on_host(hours) for hours in (-2, 0, 2))
        chats = [(late.ask(), right), (right.ask(), early), (early.ask(), late)]
        errors = [(chat.created_at - time.time()) / 3600 for chat, _ in chats]
        assert [round(hours, 1) for hours in errors] == [-2, 0, 2]
        outlive_a_lease(store)
        for chat, other in chats:
            assert other.server.stop(chat.task_id).status_code == 200
            assert chat.is_stopped()
            for each in (other, chat.deployment):
                wait_until(partial(each.is_told_stopped, chat))
        left = [host.ask() for host in (late, early)]
        for chat in left:
            os.kill(int(chat.pid), signal.SIGKILL)
        for chat in left:
            wait_until(chat.is_forgotten)


def outlive_a_lease(store: Store) -> None:
    """Wait until what is not renewed is forgotten, by the store's own clock."""
    backend, unkept = backend_from_url(store.url, lease=LEASE), new_record()
    backend.announce(unkept)
    wait_until(lambda: backend.stop(unkept.task_id, ALICE) is StopOutcome.MISSING)
    backend.close()


@contextmanager
def small_disk(directory: Path) -> Iterator[None]:
    """Mount a file system of a megabyte at a directory."""
    if os.geteuid() != 0:
        pytest.skip("a disk to be filled needs root")
    directory.mkdir()
    options = ["-t", "tmpfs", "-o", "size=1m", "tmpfs", str(directory)]
    subprocess.run(["mount", *options], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def fill(file: Path) -> None:
    """Write until nothing more can be written."""
    with file.open("wb", buffering=0) as output, pytest.raises(OSError, match="space"):
        while True:
            output.write(bytes(4096))


def test_a_full_disk_under_sqlite_stalls_no_answer_and_fails_no_stop_silently(
    tmp_path: Path,
) -> None:
    disk = tmp_path / "disk"
    with (
        small_disk(disk),
        deployment(
            tmp_path / "deployment", f"sqlite:///{disk}/chatstop.db"
        ) as deployed,
    ):
        chat = deployed.ask("talk")
        fill(disk / "filling")
        response = chat.stop_elsewhere()
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) > 0
        assert chat.goes_on()
        meanwhile = deployed.ask("talk")
        assert meanwhile.stop_here().headers["Chatstop-Outcome"] == "stopping"
        assert meanwhile.is_stopped()
        assert "full" in deployed.log()
        (disk / "filling").unlink()
        wait_until(chat.can_be_stopped_elsewhere, 20)
        assert chat.is_stopped()


def test_never_is_in_memory_state_silently_used_under_several_workers(
    tmp_path: Path,
) -> None:
    """In-memory state silently used under several workers."""
    with deployment(tmp_path / "deployment", "memory://") as deployed:
        chat = deployed.ask("talk")
        wait_until(lambda: "the memory backend serves one" in deployed.log())
        assert "Set CHATSTOP_BACKEND" in deployed.log()
        # Nor is the client told that it was stopped.
        assert chat.stop_elsewhere().status_code == 404
        assert chat.goes_on()
        assert chat.stop_here().status_code == 200
        assert chat.is_stopped()

"""What a killed worker leaves behind, and what a long task does not."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_chatstop import StopOutcome
from flask_chatstop.backends import backend_from_url
from flask_chatstop.testing import ALICE, new_record, wait_until
from tests.faults.deployment import LEASE, Deployment, deployment


@pytest.fixture(params=["sqlite_url", "postgresql_url", "mariadb_url", "redis_url"])
def backend_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture
def four_workers(backend_url: str, tmp_path: Path) -> Iterator[Deployment]:
    with deployment(tmp_path / "deployment", backend_url, "--workers", "4") as deployed:
        wait_until(lambda: len(deployed.server.workers()) == 4)
        yield deployed


def test_never_does_the_chat_stay_running_after_a_crash(
    four_workers: Deployment,
) -> None:
    """The chat stays "running" after a crash."""
    victim, survivor, *_ = four_workers.server.workers()
    killed, left = (
        [four_workers.ask(then, by=pid) for then in ("talk", "silence")]
        for pid in (victim, survivor)
    )
    os.kill(int(victim), signal.SIGKILL)
    for chat in killed:
        assert chat.call.closed.wait(10)
        # Nobody can tell at once that its worker is no more, but the lease runs out.
        assert chat.stop().status_code in (200, 404)
        wait_until(chat.is_forgotten)
        assert chat.ends() == []
    for chat in left:
        assert chat.stop_elsewhere().headers["Chatstop-Outcome"] == "stopping"
        assert chat.is_stopped()


def test_never_is_a_task_that_runs_longer_than_its_record_out_of_a_stops_reach(
    eight_workers: Deployment,
) -> None:
    """A task that runs longer than its record can no longer be stopped."""
    chats = [eight_workers.ask(then) for then in ("talk", "silence", "hold")]
    backend = backend_from_url(eight_workers.backend_url, lease=LEASE)
    unkept = new_record()
    backend.announce(unkept)
    wait_until(lambda: backend.stop(unkept.task_id, ALICE) is StopOutcome.MISSING)
    for chat in chats:
        assert chat.stop_elsewhere().headers["Chatstop-Outcome"] == "stopping"
        assert chat.is_stopped()
    backend.close()

"""A store whose clock is set forward by more than a lease, under running workers."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flask_chatstop import StopOutcome
from flask_chatstop.backends import backend_from_url
from flask_chatstop.testing import ALICE, new_record, wait_until
from tests.faults.clock import Clock
from tests.support.servers.database_fixtures import running
from tests.support.servers.mariadb import MariaDBServer
from tests.support.servers.postgresql import PostgreSQLServer
from tests.support.servers.redis import RedisServer
from tests.support.worker_app import WorkerApp

LEASE, RETENTION = 3.0, 600.0


@pytest.fixture
def clock() -> Iterator[Clock]:
    # Not pytest's directory: a database runs as a user who may not read there.
    with tempfile.TemporaryDirectory(prefix="chatstop-clock-") as directory:
        path = Path(directory)
        path.chmod(0o755)
        yield Clock(path)


@contextmanager
def redis(directory: Path) -> Iterator[str]:
    server = RedisServer(directory)
    yield server.url
    server.kill()


@contextmanager
def database(server: PostgreSQLServer | MariaDBServer) -> Iterator[str]:
    with contextmanager(running)(server) as started:
        yield started.url


@pytest.fixture(params=["redis", "postgresql", "mariadb"])
def url(
    request: pytest.FixtureRequest,
    clock: Clock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """Run a server that has the clock."""
    with monkeypatch.context() as context:
        for name, value in clock.environment.items():
            context.setenv(name, value)
        opened = (
            redis(tmp_path)
            if request.param == "redis"
            else database(
                PostgreSQLServer() if request.param == "postgresql" else MariaDBServer()
            )
        )
        with opened as url:
            context.undo()
            yield url


def open_app(url: str) -> WorkerApp:
    return WorkerApp(url, lease=LEASE, retention=RETENTION, sweep_interval=0.5)


def test_a_clock_that_jumps_over_a_lease_loses_no_task_and_no_stop(
    url: str, clock: Clock
) -> None:
    app, elsewhere = open_app(url), open_app(url)
    probe = backend_from_url(url, lease=LEASE, retention=RETENTION)
    chat, unkept, stopping = app.chat(), new_record(), new_record()
    for record in (unkept, stopping):
        probe.announce(record)
    assert probe.stop(stopping.task_id, ALICE) is StopOutcome.STOPPING
    clock.jump(int(LEASE + RETENTION / 2))
    # What nobody renews is gone, so the clock has jumped indeed.
    assert probe.stop(unkept.task_id, ALICE) is StopOutcome.MISSING
    # A stop that was taken before is kept for the worker of its task.
    assert probe.renew([stopping]) == set()
    assert probe.stops(stopping.worker_id, [stopping.task_id]) == {stopping.task_id}
    # One that begins now is known at once, and one that runs with its next renewal.
    assert elsewhere.can_stop(app.chat())
    wait_until(lambda: elsewhere.can_stop(chat))
    # In its own process a task is known all the time.
    other = app.chat()
    clock.jump(3600)
    assert app.can_stop(other)
    for each in (app, elsewhere):
        each.close()
    probe.close()

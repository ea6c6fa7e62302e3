"""Leases that run out while their worker believes that all is well."""

from pathlib import Path

import pytest

from flask_chatstop.backends import backend_from_url
from flask_chatstop.testing import wait_until
from tests.support.worker_app import Chat, WorkerApp


@pytest.fixture(params=["sqlite", "postgresql", "mariadb", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/chatstop.db"
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


def let_leases_run_out(url: str, app: WorkerApp, chats: list[Chat]) -> None:
    """Let the tasks of a worker be unknown, as after its machine was suspended."""
    heir = backend_from_url(url, lease=0.1)
    heir.renew([task.record for task in app.worker.running()])
    for chat in chats:
        wait_until(lambda: not heir.tasks(task_id=chat.task_id))  # noqa: B023
    heir.close()


@pytest.mark.parametrize("how", ["stopped", "ended"])
def test_an_end_is_told_though_the_lease_ran_out_unnoticed(url: str, how: str) -> None:
    app, elsewhere = (WorkerApp(url, sweep_interval=60) for _ in range(2))
    chat, other = chats = [app.chat(words=500), app.chat()]
    let_leases_run_out(url, app, chats)
    if how == "stopped":
        assert app.stop(chat).headers["Chatstop-Outcome"] == "stopping"
    assert chat.ended.wait(20)

    def outcome() -> str | None:
        return elsewhere.stop(chat).headers.get("Chatstop-Outcome")

    wait_until(lambda: outcome() == how)
    # Its worker has been told, and makes the other one known again.
    wait_until(lambda: elsewhere.can_stop(other))
    for each in (app, elsewhere):
        each.close()

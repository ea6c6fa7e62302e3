"""Callbacks of an app's that never return, and whom they delay: nobody."""

from collections.abc import Iterator

import pytest

from flask_chatstop.testing import wait_until
from tests.faults.deployment import Deployment, deployment


@pytest.fixture(scope="module", params=["postgresql_url", "redis_url"])
def deployed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    url = request.getfixturevalue(request.param)
    options = ("--threads", "40")
    with deployment(tmp_path_factory.mktemp("deployment"), url, *options) as deployed:
        yield deployed


@pytest.mark.parametrize("blocks", ["on_stop", "on_end"])
@pytest.mark.parametrize("here", [True, False])
def test_never_does_a_slow_callback_of_one_task_delay_the_stop_of_another(
    deployed: Deployment, blocks: str, here: bool
) -> None:
    """A slow callback of one task delays the stop of another."""
    slow = [deployed.ask(blocks=blocks)]
    slow += [deployed.ask(by=slow[0].pid, blocks=blocks) for _ in range(3)]
    other = deployed.ask("talk", by=slow[0].pid)
    for chat in slow:
        response = chat.stop_here() if here else chat.stop_elsewhere()
        assert response.status_code == 200
        assert chat.call.closed.wait(10)
    response = other.stop_here() if here else other.stop_elsewhere()
    assert response.headers["Chatstop-Outcome"] == "stopping"
    assert other.is_stopped()
    for chat in slow:
        wait_until(lambda chat=chat: bool(chat.ends()))  # type: ignore[misc]
        assert chat.ends()[0][0] == "stopped"

"""Answers and stops pass through nginx, with the settings of the page on deploying."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pages import blocks
from tests.support.provider import TOKENS, Provider
from tests.support.servers.gunicorn import Reader, Server, gunicorn
from tests.support.servers.nginx import nginx
from tests.support.servers.others import APP

OFF = "proxy_buffering off;"


@pytest.fixture(params=["as shown", "without proxy_buffering"])
def proxy(
    request: pytest.FixtureRequest, silent: Provider, tmp_path: Path
) -> Iterator[Server]:
    """Run an app behind the block of the page, or with its own header alone."""
    [block] = blocks("deploying.md", "nginx")
    assert OFF in block
    if request.param != "as shown":
        block = block.replace(OFF, "")
    options = ("-k", "gthread", "--threads", "8")
    environ = {"PROVIDER": silent.url, "HEARTBEAT": "0.5"}
    with gunicorn(APP, tmp_path, *options, **environ) as app:
        assert "http://127.0.0.1:8000;" in block
        block = block.replace("http://127.0.0.1:8000", app.url)
        with nginx(tmp_path, block) as server:
            yield server


def test_an_answer_comes_at_once_and_is_stopped(
    proxy: Server, silent: Provider
) -> None:
    reader = Reader(proxy)
    task_id = reader.until(TOKENS[-1])  # though the model is silent from here on
    response = proxy.stop(task_id)
    assert response.headers["Chatstop-Outcome"] == "stopping"
    assert reader.rest()[-1]["metadata"]["end_reason"] == "stopped"
    assert silent.calls[0].closed.wait(30)


def test_the_server_notices_that_the_client_has_left(
    proxy: Server, silent: Provider
) -> None:
    reader = Reader(proxy)
    reader.until(TOKENS[-1])
    reader.close_tab()
    assert silent.calls[0].closed.wait(30)

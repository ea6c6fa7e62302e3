"""Chats and stops without what Windows lacks; simulated on this system."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.provider import TOKENS, Provider
from tests.support.servers.gunicorn import Reader, Server
from tests.support.servers.others import APP, serving

FLASK = [sys.executable, "-m", "tests.support.like_windows", "--app", APP]


@pytest.fixture(params=["memory", "sqlite", "postgresql", "redis"])
def servers(
    request: pytest.FixtureRequest, silent: Provider, tmp_path: Path
) -> Iterator[tuple[Server, Server]]:
    """Run ``flask run`` twice, once for ``memory://``: who streams, and who stops."""
    url = "memory://"
    if request.param != "memory":
        url = request.getfixturevalue(f"{request.param}_url")
    environ = {"PROVIDER": silent.url, "FLASK_CHATSTOP_BACKEND": url}
    command = [*FLASK, "run", "--port", "{port}"]
    with ExitStack() as stack:
        server = other = stack.enter_context(serving(tmp_path, *command, **environ))
        if request.param != "memory":
            other = stack.enter_context(serving(tmp_path, *command, **environ))
        yield server, other


def test_flask_run_streams_and_a_stop_reaches_it(
    servers: tuple[Server, Server], silent: Provider
) -> None:
    server, other = servers
    for is_async in False, True:
        reader = Reader(server, body={"async": is_async})
        task_id = reader.until(TOKENS[-1])
        response = other.stop(task_id)
        assert response.headers["Chatstop-Outcome"] == "stopping"
        assert silent.calls[-1].closed.wait(30)
        [end] = reader.rest()
        assert end["metadata"]["end_reason"] == "stopped"
        assert (response.headers["Pid"] == reader.pid) is (other is server)
    log = server.log.read_text()
    assert log.count(f"stopped: {''.join(TOKENS)}") == 2
    assert "Traceback" not in log and "Lost" not in log, log
    assert "This app seems" not in log


def test_a_url_of_a_unix_socket_is_refused_with_advice() -> None:
    command = [*FLASK, "chatstop", "check"]
    environ = {"FLASK_CHATSTOP_BACKEND": "unix:///run/redis.sock", "PROVIDER": "any"}
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "This system has no Unix sockets; name a host and a port" in done.stderr

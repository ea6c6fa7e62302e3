"""Stops across real gunicorn workers: every shared backend, every kind of worker."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from flask_chatstop.testing import wait_until
from tests.support.provider import TOKENS, Provider
from tests.support.servers.gunicorn import Reader, Server, gunicorn

BACKENDS = ["sqlite_url", "postgresql_url", "mariadb_url", "redis_url"]
WORKERS = {
    "sync": ["-k", "sync"],
    "gthread": ["-k", "gthread", "--threads", "8"],
    "gthread, preloaded": ["-k", "gthread", "--threads", "8", "--preload"],
    "gevent": ["-k", "gevent"],
    "gevent, preloaded": ["-k", "gevent", "--preload"],
}


@pytest.fixture(params=BACKENDS)
def backend_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


@contextmanager
def four_workers(
    backend_url: str, model: Provider, tmp_path: Path, *options: str
) -> Iterator[Server]:
    with gunicorn(
        "tests.support.served_app:create_app()",
        tmp_path,
        *("--workers", "4", *options),
        OPENAI_BASE_URL=model.url,
        FLASK_CHATSTOP_BACKEND=backend_url,
        FLASK_CHATSTOP_LEASE="3",
    ) as server:
        yield server


def is_told_stopped(server: Server, task_id: str, pid: str) -> bool:
    headers = server.stop_elsewhere(task_id, pid).headers
    return headers["Chatstop-Outcome"] == "stopped"


@pytest.mark.parametrize("worker", WORKERS)
def test_a_stop_reaches_the_worker_that_streams(
    worker: str, backend_url: str, silent: Provider, tmp_path: Path
) -> None:
    with four_workers(backend_url, silent, tmp_path, *WORKERS[worker]) as server:
        for number in range(3):
            reader = Reader(server)
            task_id = reader.until(TOKENS[-1])
            call = silent.calls[number]
            assert call.silent.wait(30)
            begun = time.monotonic()
            response = server.stop_elsewhere(task_id, reader.pid)
            assert reader.over.wait(30)
            assert call.closed.wait(30)
            took = time.monotonic() - begun
            assert response.status_code == 200, response.text
            assert response.headers["Chatstop-Outcome"] == "stopping"
            assert response.headers["Pid"] != reader.pid
            [end] = reader.rest()
            assert end["metadata"]["end_reason"] == "stopped"
            wait_until(partial(is_told_stopped, server, task_id, reader.pid))
            print(f"{worker}: stopped and hung up within {1000 * took:.0f} ms")
    log = server.log.read_text()
    assert "Traceback" not in log and "Lost" not in log
    assert "This app seems" not in log
    assert log.count(f"stopped: {''.join(TOKENS)}") == 3

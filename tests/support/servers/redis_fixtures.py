"""Redis servers for tests: the one that the environment names, and own ones."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
import redis

from flask_chatstop.backends.redis import RedisBackend
from tests.support.servers.redis import HAS_SERVER, RedisServer

REDIS_URL = os.environ.get("CHATSTOP_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
#: The process of pytest-xdist that this is, from 1; 0 without it.
PROCESS = int(os.environ.get("PYTEST_XDIST_WORKER", "gw-1").removeprefix("gw")) + 1


@pytest.fixture(scope="session")
def redis_url() -> str:
    """Give the URL of a Redis that is shared with others."""
    url = _database_of_process(REDIS_URL)
    with redis.Redis.from_url(url) as client:
        try:
            client.ping()
        except redis.ConnectionError:
            pytest.skip("no Redis there; set CHATSTOP_TEST_REDIS_URL")
    return url


def _database_of_process(url: str) -> str:
    """Return the URL of a database that tests in other processes do not use."""
    parts = urlsplit(url)
    number = int(parts.path.strip("/") or 0) + PROCESS
    return urlunsplit(parts._replace(path=f"/{number}"))


@pytest.fixture(scope="session")
def redis_prefix(redis_url: str) -> Iterator[str]:
    """Give a prefix for this run of the tests, whose keys are deleted after it."""
    prefix = f"chatstop-test-{uuid.uuid4().hex}:"
    yield prefix
    with redis.Redis.from_url(redis_url) as client:
        for key in client.scan_iter(f"{prefix}*", count=1000):
            client.delete(key)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """Start a Redis of the test's own."""
    if not HAS_SERVER:
        pytest.skip("there is no redis-server to start")
    server = RedisServer(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def redis_backend(server: RedisServer) -> Iterator[RedisBackend]:
    """Open a backend on the test's own Redis."""
    backend = RedisBackend(server.url)
    yield backend
    backend.close()

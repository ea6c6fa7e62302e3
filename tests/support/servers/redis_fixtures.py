"""Redis servers for tests: the one that the environment names, and own ones."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from flask_chatstop.backends.redis import RedisBackend
from tests.support.servers.redis import HAS_SERVER, RedisServer

REDIS_URL = os.environ.get("CHATSTOP_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")


@pytest.fixture(scope="session")
def redis_url() -> str:
    """Give the URL of a Redis that is shared with others."""
    with redis.Redis.from_url(REDIS_URL) as client:
        try:
            client.ping()
        except redis.ConnectionError:
            pytest.skip("no Redis there; set CHATSTOP_TEST_REDIS_URL")
    return REDIS_URL


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

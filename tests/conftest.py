"""Fixtures that several test files use."""

import sys
from collections.abc import Iterator

import pytest

from tests.support.provider import Provider, provider

pytest_plugins = [
    "tests.support.database_fixtures",
    "tests.support.fast",
    "tests.support.faulty_worker",
    "tests.support.servers.browser",
    "tests.support.servers.database_fixtures",
    "tests.support.servers.example",
    "tests.support.servers.redis_fixtures",
]


@pytest.fixture
def restless() -> Iterator[None]:
    """Let threads take turns a thousand times as often, so that they interleave."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(interval / 1000)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture
def silent() -> Iterator[Provider]:
    with provider() as server:
        yield server

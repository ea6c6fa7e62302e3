"""Fixtures that several test files use."""

import os
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
    "tests.support.servers.redis_fixtures",
]


@pytest.fixture(scope="module", autouse=True)
def unchanged_environment() -> Iterator[None]:
    """Refuse a module whose tests leave a variable to what later ones start."""
    before = dict(os.environ)
    yield
    after = dict(os.environ)
    for environment in (before, after):
        environment.pop("PYTEST_CURRENT_TEST", None)
    assert after == before


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

"""Fixtures that several test files use."""

from collections.abc import Iterator

import pytest

from tests.provider import Provider, provider

pytest_plugins = [
    "tests.browser_fixtures",
    "tests.database_fixtures",
    "tests.faulty_worker",
    "tests.redis_fixtures",
]


@pytest.fixture
def silent() -> Iterator[Provider]:
    with provider() as server:
        yield server

"""A database that needs no server, and backends on any."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_chatstop.backends.database import DatabaseBackend


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'chatstop.db'}"


@pytest.fixture
def open_backend() -> Iterator[Callable[..., DatabaseBackend]]:
    """Open backends that are closed after the test."""
    backends: list[DatabaseBackend] = []

    def open_backend(source: Any, **options: Any) -> DatabaseBackend:
        backends.append(DatabaseBackend(source, **options))
        return backends[-1]

    yield open_backend
    for backend in backends:
        backend.close()

"""The stores of running tasks, each in a module of its own."""

from collections.abc import Iterator
from contextlib import contextmanager

from flask_chatstop.backends.base import (
    EndReason,
    Owner,
    StopBackend,
    StopOutcome,
    TaskInfo,
    TaskRecord,
)
from flask_chatstop.backends.entry import TaskEntry
from flask_chatstop.backends.memory import MemoryBackend
from flask_chatstop.backends.redis import RedisBackend
from flask_chatstop.backends.simple import SimpleBackend
from flask_chatstop.backends.urls import store_url
from flask_chatstop.errors import ConfigurationError

__all__ = [
    "EndReason",
    "MemoryBackend",
    "Owner",
    "RedisBackend",
    "SimpleBackend",
    "StopBackend",
    "StopOutcome",
    "TaskEntry",
    "TaskInfo",
    "TaskRecord",
    "backend_from_url",
    "needs_sqlalchemy",
    "store_url",
]


def backend_from_url(
    url: str, *, lease: float = 60.0, retention: float = 600.0, timeout: float = 2.0
) -> StopBackend:
    """Return the backend that a URL names, without connecting to it.

    :param url: ``memory://``; the URL of a database as SQLAlchemy reads it:
        ``sqlite:///file.db``, ``postgresql://``, ``mysql://`` or ``mariadb://``; or one
        of Redis or Valkey as redis-py reads it: ``redis://``, ``rediss://``,
        ``unix://``, ``valkey://`` or ``valkeys://``. ``postgres://`` is the same as
        ``postgresql://``.
    :param lease: see :class:`StopBackend`, also for the other options.
    :raises ConfigurationError: no backend has this scheme, or its package is missing.
    """
    kind, url = store_url(url)
    if kind == "memory":
        return MemoryBackend(lease=lease, retention=retention, timeout=timeout)
    if kind == "redis":
        return RedisBackend(url, lease=lease, retention=retention, timeout=timeout)
    with needs_sqlalchemy():
        from flask_chatstop.backends.database import DatabaseBackend
    return DatabaseBackend(url, lease=lease, retention=retention, timeout=timeout)


@contextmanager
def needs_sqlalchemy() -> Iterator[None]:
    """Say which package to install if the import in the block does not find it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "sqlalchemy":
            raise
        raise ConfigurationError(
            "A database needs the package sqlalchemy; run"
            ' `pip install "flask_chatstop[database]"`.'
        ) from error

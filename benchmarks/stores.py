"""A place of its own in every store, for the length of a measurement."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from flask_chatstop.backends.database import DatabaseBackend
from tests.database_fixtures import scratch_database
from tests.redis_fixtures import REDIS_URL

_SERVERS = {
    "PostgreSQL": "CHATSTOP_TEST_POSTGRESQL_URL",
    "MariaDB": "CHATSTOP_TEST_MARIADB_URL",
}
DATABASES = ("SQLite", *_SERVERS)
#: The stores that processes can share.
STORES = (*DATABASES, "Redis")


@contextmanager
def store(name: str) -> Iterator[str]:
    """Give the URL of a fresh database with its table, or of the shared Redis."""
    if name in _SERVERS:
        with contextmanager(scratch_database)(_SERVERS[name]) as url:
            yield url
    elif name == "SQLite":
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{folder}/chatstop.db"
            backend = DatabaseBackend(url)
            backend.create_table()
            backend.close()
            yield url
    else:
        yield REDIS_URL if name == "Redis" else "memory://"

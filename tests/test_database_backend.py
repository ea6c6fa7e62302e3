from typing import Any

import pytest

from flask_chatstop.backends.database import DatabaseBackend
from flask_chatstop.testing import BackendContract


class DatabaseContract(BackendContract):
    url: str

    def open_backend(self, **options: Any) -> DatabaseBackend:
        return DatabaseBackend(self.url, **options)


class TestOnSQLite(DatabaseContract):
    @pytest.fixture(autouse=True)
    def _use(self, sqlite_url: str) -> None:
        self.url = sqlite_url


class TestOnPostgreSQL(DatabaseContract):
    @pytest.fixture(autouse=True)
    def _use(self, postgresql_url: str) -> None:
        self.url = postgresql_url


class TestOnMariaDB(DatabaseContract):
    @pytest.fixture(autouse=True)
    def _use(self, mariadb_url: str) -> None:
        self.url = mariadb_url

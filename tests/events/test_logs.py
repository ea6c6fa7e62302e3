"""The logs of answers keep the contract, on every store."""

from typing import Any

import pytest
import redis
from sqlalchemy import create_engine

from flask_chatstop import ConfigurationError
from flask_chatstop.events import (
    EventLog,
    MemoryEventLog,
    RedisEventLog,
    events_from_url,
)
from flask_chatstop.events.database import DatabaseEventLog
from flask_chatstop.testing import EventLogContract


class TestMemoryEventLog(EventLogContract):
    is_shared = False

    def open_log(self, **options: Any) -> EventLog:
        return MemoryEventLog(**options)


class TestRedisEventLog(EventLogContract):
    @pytest.fixture(autouse=True)
    def _use(self, redis_url: str, redis_prefix: str) -> None:
        self.url, self.prefix = redis_url, redis_prefix

    def open_log(self, **options: Any) -> EventLog:
        return RedisEventLog(self.url, prefix=self.prefix, **options)


class DatabaseContract(EventLogContract):
    url: str

    def open_log(self, **options: Any) -> EventLog:
        return DatabaseEventLog(self.url, **options)


class TestOnSQLite(DatabaseContract):
    @pytest.fixture(autouse=True)
    def _use(self, sqlite_url: str) -> None:
        self.url = sqlite_url


class TestOnPostgreSQL(DatabaseContract):
    @pytest.fixture(autouse=True)
    def _use(self, postgresql_url: str) -> None:
        self.url = with_table(postgresql_url)


class TestOnMariaDB(DatabaseContract):
    @pytest.fixture(autouse=True)
    def _use(self, mariadb_url: str) -> None:
        self.url = with_table(mariadb_url)


def with_table(url: str) -> str:
    log = DatabaseEventLog(url)
    log.create_table()
    log.close()
    return url


def test_an_app_may_give_its_engine(postgresql_url: str) -> None:
    engine = create_engine(with_table(postgresql_url))
    log = DatabaseEventLog(lambda: engine)
    log.check()
    assert log.engine.url == engine.url
    log.close()
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("memory://", MemoryEventLog),
        ("redis://localhost", RedisEventLog),
        ("valkey://localhost", RedisEventLog),
        ("sqlite:///events.db", DatabaseEventLog),
        ("postgresql://localhost/chat", DatabaseEventLog),
        ("mysql://localhost/chat", DatabaseEventLog),
    ],
)
def test_a_url_names_a_log(url: str, kind: type[EventLog]) -> None:
    log = events_from_url(url, retention=5.0, timeout=1.0, max_bytes=100)
    assert isinstance(log, kind)
    assert (log.retention, log.timeout, log.max_bytes) == (5.0, 1.0, 100)


def test_a_url_of_no_store_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="the scheme ftp://"):
        events_from_url("ftp://localhost")


@pytest.mark.parametrize("max_bytes", [0, -1, True, "8", 1.5])
def test_an_invalid_bound_is_refused(max_bytes: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_bytes"):
        MemoryEventLog(max_bytes=max_bytes)


def test_a_client_that_decodes_its_replies_is_refused() -> None:
    client = redis.Redis(decode_responses=True)
    with client, pytest.raises(ConfigurationError, match="decode_responses"):
        RedisEventLog(client)

"""Which URL names which store, and what an error says to write instead."""

import traceback
from collections.abc import Callable

import pytest

from flask_chatstop import ConfigurationError, backend_from_url
from flask_chatstop.backends import MemoryBackend, RedisBackend
from flask_chatstop.backends.database import DatabaseBackend
from flask_chatstop.backends.urls import store_url
from flask_chatstop.events import events_from_url
from flask_chatstop.events.database import DatabaseEventLog

Read = Callable[[str], object]

both = pytest.mark.parametrize("read", [backend_from_url, events_from_url])


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        ("memory://", "memory", "memory://"),
        ("memory", "memory", "memory"),
        ("sqlite:///x.db", "database", "sqlite:///x.db"),
        ("postgres://u:p@h/x", "database", "postgresql://u:p@h/x"),
        ("postgres+psycopg://h/x", "database", "postgresql+psycopg://h/x"),
        ("PostgreSQL://H/X", "database", "postgresql://H/X"),
        ("mariadb+pymysql://h/x", "database", "mariadb+pymysql://h/x"),
        (" rediss://h/0\n", "redis", "rediss://h/0"),
        ("unix:///run/redis.sock", "redis", "unix:///run/redis.sock"),
        ("VALKEYS://h", "redis", "valkeys://h"),
    ],
)
def test_the_scheme_names_the_store(given: str, kind: str, text: str) -> None:
    assert store_url(given) == (kind, text)


def test_the_url_of_a_host_that_says_postgres_is_taken() -> None:
    url = "postgres://u:s3cret@h/x"
    for store in (backend_from_url(url), events_from_url(url)):
        assert isinstance(store, DatabaseBackend | DatabaseEventLog)
        assert "'postgresql+psycopg://u:***@h/x'" in repr(store)


def test_spaces_around_a_url_are_left_out() -> None:
    assert isinstance(backend_from_url(" redis://127.0.0.1/0\r\n"), RedisBackend)
    assert isinstance(backend_from_url("memory://\n"), MemoryBackend)


@both
@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("postgresql+psycopg2://u:s3cret@h/x", "write postgresql://, which uses psyc"),
        ("postgres+asyncpg://u:s3cret@h/x", "write postgresql://, which uses psycopg"),
        ("mysql+mysqldb://u:s3cret@h/x", "write mysql://, which uses pymysql"),
        ("mariadb+mariadbconnector://u:s3cret@h", "write mariadb://, which uses pymys"),
        ("sqlite+aiosqlite:///s3cret.db", "write sqlite://, which uses pysqlite"),
        ("psql://u:s3cret@h/x", "write postgresql://"),
        ("postgre://u:s3cret@h/x", "write postgresql://"),
        ("sqlite3:///s3cret.db", "write sqlite://"),
        ("redis+socket:///s3cret", "write unix://"),
        ("async+redis://:s3cret@h", "write redis://"),
        ("redis+ssl://:s3cret@h", "write redis://"),
        ("redis+sentinel://:s3cret@h", "redis-py's client for a Sentinel"),
        ("rediss+cluster://:s3cret@h", "redis-py's client for a Sentinel or a Cluste"),
        ("mongodb://u:s3cret@h", "scheme mongodb://; use a URL that begins with memo"),
    ],
)
def test_a_scheme_that_no_store_has_is_answered_by_one_that_it_has(
    read: Read, url: str, advice: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read(url)
    assert advice in str(raised.value)
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))


@both
@pytest.mark.parametrize(
    "url",
    ["", "s3cret", "s3cret@host", "u:s3cret@h/x", "s3cret:x", "postgres:/u:s3cret@h/x",
     "'redis://:s3cret@h'", "redis//:s3cret@h", "/var/s3cret.db", "://s3cret"],
)  # fmt: skip
def test_what_is_not_a_url_is_not_shown(read: Read, url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"not a URL; .* redis://,") as raised:
        read(url)
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))

"""What the database backend has to know of drivers."""

import importlib.util
import select
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from flask_chatstop.backends.database.postgresql import PostgreSQLConnect, wait_until
from flask_chatstop.errors import ConfigurationError

# Of each scheme: the driver, its module, and the extra that brings it.
_DRIVERS = {
    "sqlite": ("pysqlite", "sqlite3", "database"),
    "postgresql": ("psycopg", "psycopg", "postgresql"),
    "mysql": ("pymysql", "pymysql", "mysql"),
    "mariadb": ("pymysql", "pymysql", "mysql"),
}


def parse_url(url: str | URL) -> URL:
    """Read a URL, and let one without a driver mean the driver we know.

    :raises ConfigurationError: it cannot be used; says why, without its password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            "The database URL cannot be read; write it like"
            " postgresql://user:password@host/name."
        ) from None
    scheme, _, driver = parsed.drivername.partition("+")
    known, module, extra = _DRIVERS.get(scheme, ("", "", ""))
    if not known or driver not in ("", known):
        raise ConfigurationError(
            f"The database URL begins with {parsed.drivername}; use one of"
            f" {', '.join(_DRIVERS)}, or give an engine instead."
        )
    # Looked for and not imported: psycopg has to see what gevent has patched, which
    # gunicorn does after it has loaded the app when it preloads.
    if importlib.util.find_spec(module) is None:
        raise ConfigurationError(
            f"{scheme}:// needs the package {module}; run"
            f' `pip install "flask_chatstop[{extra}]"`.'
        )
    if scheme == "sqlite":
        _refuse_memory(parsed)
    return parsed.set(drivername=f"{scheme}+{known}")


def make_engine(
    url: URL, timeout: float, *, pool_size: int, keep_journal: bool = False
) -> Engine:
    """Make an engine of our own, whose every step ends within the timeout.

    :param keep_journal: leave the journal mode of a SQLite file as it is.
    """
    options: dict[str, Any] = {
        # Each of our statements stands for itself: no BEGIN, no COMMIT, no ROLLBACK.
        "isolation_level": "AUTOCOMMIT",
        "skip_autocommit_rollback": True,
        "pool_reset_on_return": None,
        "pool_size": pool_size,
        "max_overflow": 0,
        "pool_timeout": timeout,
        "pool_use_lifo": True,
    }
    if url.get_backend_name() == "sqlite":
        _refuse_memory(url)
        engine = create_engine(url, connect_args={"timeout": 0}, **options)
        if not keep_journal:
            event.listen(engine, "connect", _write_ahead)
    elif url.get_backend_name() == "postgresql":
        engine = create_engine(url, **options)
        event.listen(engine, "do_connect", PostgreSQLConnect(timeout).connect)
    else:
        seconds = max(1, int(timeout))
        engine = create_engine(
            url,
            connect_args={
                "connect_timeout": timeout,
                "read_timeout": timeout,
                "write_timeout": timeout,
                # Else the server goes on waiting when we have given up.
                "init_command": f"SET SESSION lock_wait_timeout={seconds},"
                f" innodb_lock_wait_timeout={seconds}",
            },
            **options,
        )
    return engine


def is_stale(connection: Any) -> bool:
    """Tell whether the server has closed a connection that nothing was asked of.

    Costs no round trip: an idle connection has something to read only when it was
    cut. So a restarted server is not met by a statement that could not be repeated.
    """
    sock = getattr(connection, "_sock", connection)  # PyMySQL's
    try:
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))
    except AttributeError:
        return False
    except Exception:  # a closed connection, in the words of its driver
        return True


def is_refused(error: Any) -> bool:
    """Tell whether a statement gave way to another one, and has changed nothing."""
    # SQLite's own wait for the lock of its file would hold up every greenlet of
    # gevent, and gives no turn to those who wait long.
    if isinstance(error, sqlite3.Error):
        return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
    # A deadlock, or a conflict where the default isolation is stricter than usual.
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    return state in ("40001", "40P01") or error.args[:1] == (1213,)


@contextmanager
def bounded(driver: Any, deadline: float) -> Iterator[None]:
    """Let what is done with a connection of psycopg or PyMySQL end in time."""
    if hasattr(driver, "pgconn"):
        driver.wait = partial(wait_until, driver, deadline)
        try:
            yield
        finally:
            del driver.wait
    elif hasattr(driver, "_read_timeout"):
        before = driver._read_timeout, driver._write_timeout
        left = max(0.001, deadline - time.monotonic())
        driver._read_timeout = driver._write_timeout = left
        try:
            yield
        finally:
            driver._read_timeout, driver._write_timeout = before
    else:
        yield


def _write_ahead(connection: sqlite3.Connection, record: object) -> None:
    # A power cut may undo the last writes, but it ends the tasks they tell of too.
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
    except BaseException:
        connection.close()
        raise


def _refuse_memory(url: URL) -> None:
    name = url.database or ":memory:"
    if ":memory:" in name or "mode=memory" in name or url.query.get("mode") == "memory":
        raise ConfigurationError(
            "SQLite in memory is seen by one connection only; name a file, like"
            " sqlite:///chatstop.db, or use memory:// for a single process."
        )

"""SQLite, with the driver of the standard library.

A stop rings the worker of its task by a socket beside the file. ``sqlite_queries.py``
has the stop, ``sqlite_doorbell.py`` the socket, ``sqlite_listener.py`` how a worker
listens.
"""

import sqlite3
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Table,
    event,
)
from sqlalchemy.schema import CreateIndex, CreateTable

from flask_chatstop.backends.database.base import Dialect, ListenEnd, Listening
from flask_chatstop.backends.database.followers import Followers
from flask_chatstop.backends.database.queries import Queries
from flask_chatstop.backends.database.sqlite_connection import SQLiteConnection
from flask_chatstop.backends.database.sqlite_followers import SQLiteFollowers
from flask_chatstop.backends.database.sqlite_listener import SQLiteListener
from flask_chatstop.backends.database.sqlite_queries import SQLiteQueries
from flask_chatstop.errors import ConfigurationError

_REFUSALS = (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH)


class SQLite(Dialect):
    """What the backend does on a SQLite file."""

    driver = "pysqlite"
    module = "sqlite3"
    extra = "database"
    # SQLite lets one connection write at a time, so the threads wait for this one.
    pool_size = 1
    is_file = True

    def queries(self, table: Table, *, lease: float, retention: float) -> Queries:
        return SQLiteQueries(table, lease=lease, retention=retention)

    def followers(self, table: Table, *, lease: float) -> Followers:
        return SQLiteFollowers(table, lease=lease)

    def make_engine(self, url: URL, timeout: float, *, is_shared: bool) -> Engine:
        self.check_url(url)
        # No wait inside of SQLite: it would block every greenlet of gevent, and it does
        # not let those who have waited longest go first.
        engine = self._create_engine(
            url, timeout, connect_args={"timeout": 0, "factory": SQLiteConnection}
        )
        if not is_shared:
            event.listen(engine, "connect", _write_ahead)
        return engine

    def check_url(self, url: URL) -> None:
        name = url.database or ":memory:"
        mode = url.query.get("mode")
        if ":memory:" in name or "mode=memory" in name or mode == "memory":
            raise ConfigurationError(
                "Only one connection can see a SQLite database in memory; name a file,"
                " like sqlite:///chatstop.db, or use memory:// for a single process."
            )

    def check_options(self, options: dict[str, Any]) -> None:
        sqlite3.connect(":memory:", **options | {"uri": False}).close()

    def create_table(self, connection: Connection, table: Table) -> None:
        # Not Table.create(): two processes would both find no table and then create it.
        connection.execute(CreateTable(table, if_not_exists=True))
        for index in table.indexes:
            connection.execute(CreateIndex(index, if_not_exists=True))

    def can_listen(self, engine: Engine) -> bool:
        return engine.dialect.name == "sqlite"

    def listen(self, driver: Any, listening: Listening) -> ListenEnd:
        return SQLiteListener(driver, listening).listen()

    def may_retry(self, error: Any) -> bool:
        return (
            isinstance(error, sqlite3.Error)
            and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
        )

    def is_missing_table(self, error: Any) -> bool:
        return "no such table" in str(error)

    def is_refusal(self, error: Any) -> bool:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        return code in _REFUSALS or isinstance(error, sqlite3.DataError)

    def text_of(self, error: object) -> str:
        text = super().text_of(error)
        if "unable to open database file" in text:
            text += "; its directory must exist and be writable"
        code = getattr(error, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_IOERR_SHORT_READ:
            # A new file is read by the old index, which another process holds open.
            text += (
                "; it was deleted or replaced without its -wal and -shm files: delete"
                " all three"
            )
        return text

    def is_stale(self, driver: Any) -> bool:
        is_stale: bool = driver.has_lost_its_file
        if is_stale:
            driver.log_loss()
        return is_stale


def _write_ahead(connection: sqlite3.Connection, record: object) -> None:
    # A power cut may undo the last writes. It also ends the tasks that they are about.
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
    except BaseException:
        connection.close()
        raise

"""The log that keeps answers in a database that the workers share."""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import URL, Connection, Engine, MetaData, Table

from flask_chatstop.backends.database.engine import Database
from flask_chatstop.backends.database.followers import Followers
from flask_chatstop.backends.database.opening import source_of
from flask_chatstop.errors import BackendError
from flask_chatstop.events.base import MAX_BYTES, EventLog, Page
from flask_chatstop.events.database_listener import LEASE, LogListener
from flask_chatstop.events.database_queries import LogQueries
from flask_chatstop.events.records import END, Record
from flask_chatstop.events.table import event_table, follower_table

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Opened:
    """What needs to know the engine."""

    queries: LogQueries
    followers: Followers
    listener: LogListener


class DatabaseEventLog(EventLog):
    """Serve the processes of one host on SQLite, or many hosts on a database server.

    SQLite creates the tables by itself. On other databases, ``flask chatstop init-db``
    or a migration creates them. Who follows an answer that another process streams is
    notified as the worker of a stopped task is. For this, one thread of each process
    that follows listens on a connection of its own. Where no notification arrives, it
    polls every 20 to 100 ms.

    :param source: as for :class:`~flask_chatstop.backends.database.DatabaseBackend`.
        Give SQLite a file of its own: frames are written 20 times a second.
    :param metadata: where :attr:`tables` are added, so that a migration tool sees them.
    :raises ConfigurationError: a URL cannot be used; the message says why.
    """

    def __init__(
        self,
        source: str | URL | Engine | Callable[[], Engine],
        *,
        metadata: MetaData | None = None,
        retention: float = 600.0,
        timeout: float = 2.0,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        super().__init__(retention=retention, timeout=timeout, max_bytes=max_bytes)
        checked = source_of(source)  # before the tables are in the metadata
        metadata = MetaData() if metadata is None else metadata
        #: The tables, for migrations: of the answers, and of who follows them.
        self.tables: tuple[Table, Table] = (
            event_table(metadata),
            follower_table(metadata),
        )
        self._database = Database(checked, *self.tables, timeout=self.timeout)
        self._opened: _Opened | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._database)!r})"

    @property
    def engine(self) -> Engine:
        """The engine, which its first use makes or asks for.

        :raises BackendError: the callable returned no engine.
        """
        return self._database.engine

    def append(self, logs: Mapping[str, Sequence[Record]]) -> set[str]:
        if not logs:
            return set()
        opened = self._open()
        unknown, news = self._run(lambda on: opened.queries.append(on, logs))
        if news:
            with suppress(BackendError):  # a ring may be lost, and records may not
                self._run(lambda on: opened.followers.ring_all(on, news))
        ended = {x for x, records in logs.items() if records[-1].number == END}
        if ended := ended - unknown:
            self.renew(ended)
        return unknown

    def read(self, log_id: str, after: int) -> Page | None:
        queries = self._open().queries
        return self._run(lambda on: queries.read(on, log_id, after))

    def wait(self, log_id: str, after: int, timeout: float) -> Record | None:
        return self._open().listener.wait(log_id, after, timeout)

    def renew(self, log_ids: Collection[str]) -> None:
        queries = self._open().queries
        self._run(lambda on: queries.renew(on, log_ids))

    def purge(self) -> int:
        opened = self._open()

        def purge(connection: Connection) -> int:
            opened.followers.purge(connection)
            return opened.queries.purge(connection)

        return self._run(purge)

    def check(self) -> None:
        """Do nothing if the store is usable."""
        followers = self._open().followers
        self.renew(["check"])
        self._run(lambda on: followers.leave(on, "check"))

    def create_table(self) -> None:
        """Create the tables and their indexes unless they exist.

        :raises BackendError: the database failed.
        """
        self._database.create_tables()

    def close(self) -> None:
        if self._opened is not None:
            self._opened.listener.close()
        self._database.close()

    def after_fork(self) -> None:
        self._opened = None
        self._lock = threading.Lock()
        self._database.after_fork()

    def _run(self, work: Callable[[Connection], T]) -> T:
        return self._database.run(work)

    def _open(self) -> _Opened:
        # At the first use: its thread and locks must be what gevent has made of them.
        if self._opened is None:
            opened = self._make()
            with self._lock:
                if self._opened is None:
                    self._opened = opened
        return self._opened

    def _make(self) -> _Opened:
        table, of_followers = self.tables
        database = self._database
        followers = database.dialect.followers(of_followers, lease=LEASE)
        queries = LogQueries(
            table,
            followers,
            dialect=database.engine.dialect.name,
            retention=self.retention,
        )
        listener = LogListener(database, queries, followers, timeout=self.timeout)
        return _Opened(queries, followers, listener)

"""The backend that keeps tasks in a database that the workers share."""

import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import TypeVar

from sqlalchemy import URL, Connection, Engine, MetaData, Table

from flask_chatstop.backends.base import (
    EndReason,
    Owner,
    StopBackend,
    StopOutcome,
    TaskInfo,
    TaskRecord,
)
from flask_chatstop.backends.database.base import ListenEnd, Listening
from flask_chatstop.backends.database.engine import Database
from flask_chatstop.backends.database.listeners import Listeners
from flask_chatstop.backends.database.opening import source_of
from flask_chatstop.backends.database.queries import Queries
from flask_chatstop.backends.database.table import task_table
from flask_chatstop.errors import BackendError
from flask_chatstop.logs import get_logger

logger = get_logger(__name__)

T = TypeVar("T")

_PURGE_INTERVAL = 60.0


class DatabaseBackend(StopBackend):
    """Serve the processes of one host on SQLite, or many hosts on a database server.

    PostgreSQL, MySQL and MariaDB notify the worker of a stopped task. On SQLite, a stop
    notifies it by a Unix socket beside the file. With a driver other than psycopg 3 and
    PyMySQL, and where no notification arrives, it polls every 100 ms while tasks run.

    SQLite creates the table by itself. On other databases, ``flask chatstop init-db``
    or a migration creates it. Expired rows are deleted without a command.

    On the engine of a URL, no call takes longer than ``timeout``. Beside an engine of
    yours, the backend has up to five connections of its own, made as the engine's are:
    by the same creator, with the same handlers of events. It never waits in your pool,
    and no longer than ``timeout`` for a connection. Calls by psycopg 3 and PyMySQL then
    end in time; those by other drivers take as long as you have configured. An
    engine with a ``StaticPool`` is refused, since threads cannot share its connection.

    :param source: a URL, a SQLAlchemy engine, or a function that returns an engine,
        like ``lambda: db.engine`` of Flask-SQLAlchemy. The function is called in the
        first request that begins or stops a task.
    :param metadata: where :attr:`table` is added, so that a migration tool sees it.
    :param listen_url: a URL for the connections on which workers listen, for where
        ``source`` leads through a pooler. Without it, workers poll there.
    :raises ConfigurationError: a URL cannot be used; the message says why.
    """

    def __init__(
        self,
        source: str | URL | Engine | Callable[[], Engine],
        *,
        metadata: MetaData | None = None,
        listen_url: str | None = None,
        lease: float = 60.0,
        retention: float = 600.0,
        timeout: float = 2.0,
    ) -> None:
        super().__init__(lease=lease, retention=retention, timeout=timeout)
        checked = source_of(source)  # before the table is in the metadata
        #: The table, for migrations.
        self.table: Table = task_table(MetaData() if metadata is None else metadata)
        self._database = Database(checked, self.table, timeout=self.timeout)
        self._listen = self._database
        if listen_url is not None:
            self._listen = Database(
                source_of(listen_url), self.table, timeout=self.timeout
            )
        self._queries: Queries | None = None
        self._listeners = Listeners(self._listen, timeout=self.timeout)
        self._purge_at = 0.0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._database)!r})"

    @property
    def tables(self) -> tuple[Table, ...]:
        """What :meth:`create_table` creates."""
        return self._database.tables

    @property
    def engine(self) -> Engine:
        """The engine, which its first use makes or asks for.

        :raises BackendError: the callable returned no engine.
        """
        return self._database.engine

    def announce(self, record: TaskRecord) -> bool:
        return self._run(lambda queries, on: queries.announce(on, record))

    def renew(self, records: Sequence[TaskRecord]) -> set[str]:
        return self._run(lambda queries, on: queries.renew(on, records))

    def stop(self, task_id: str, owner: Owner) -> StopOutcome:
        return self._run(lambda queries, on: queries.stop(on, task_id, owner))

    def end(self, record: TaskRecord, reason: EndReason) -> bool:
        is_first = self._run(lambda queries, on: queries.end(on, record, reason))
        self._purge_now_and_then()
        return is_first

    def stops(self, worker_id: str, task_ids: Collection[str]) -> set[str]:
        if not task_ids:
            return set()
        found = self._run(lambda queries, on: queries.stops(on, worker_id))
        return found.intersection(task_ids)

    def tasks(
        self,
        *,
        task_id: str | None = None,
        app: str | None = None,
        source: str | None = None,
        user: str | None = None,
    ) -> list[TaskInfo]:
        wanted = {
            "task_id": task_id,
            "owner_app": app,
            "owner_source": source,
            "owner_user": user,
        }
        return self._run(lambda queries, on: queries.tasks(on, wanted))

    def has_ended(self, task_id: str, owner: Owner) -> bool:
        return self._run(lambda queries, on: queries.has_ended(on, task_id, owner))

    def listen(
        self,
        worker_id: str,
        running: Callable[[], Collection[str]],
        heard: Callable[[Collection[str]], None],
        closing: threading.Event,
    ) -> None:
        listening = self._listening(worker_id, running, heard, closing)
        # Also where nothing runs: to be heard, a stop needs the table.
        self._run(lambda queries, on: queries.stops(on, worker_id))
        can_listen = self._listeners.can_listen
        if can_listen and self._listeners.hear(listening) is ListenEnd.OVER:
            return
        super().listen(worker_id, running, heard, closing)

    def _listening(
        self,
        worker_id: str,
        running: Callable[[], Collection[str]],
        heard: Callable[[Collection[str]], None],
        closing: threading.Event,
    ) -> Listening:
        queries, dropped = self._queries_of_table(), self._connections_dropped()

        def poll() -> Collection[str]:
            stops = self.stops(worker_id, running())
            heard(stops)
            return stops

        def register(number: int) -> None:
            with suppress(BackendError):  # a server that is read-only, say: it polls
                self._database.run(
                    lambda on: queries.register(on, worker_id, number), reconnects=False
                )

        return Listening(
            name=worker_id,
            poll=poll,
            heard=heard,
            known=tuple,
            news=queries.stops_statement(self._listen.engine, worker_id),
            register=register,
            query=lambda statement: self._run(
                lambda _, on: on.exec_driver_sql(statement).scalar()
            ),
            ring=lambda: self._run(lambda queries, on: queries.ring(on, worker_id)),
            closing=closing,
            timeout=self.timeout,
            is_outdated=lambda: self._connections_dropped() != dropped,
        )

    def check(self) -> None:
        self._run(lambda queries, on: queries.touch(on))

    def create_table(self) -> None:
        """Create the table and its indexes unless they exist.

        :raises BackendError: the database failed.
        """
        self._database.create_tables()

    def purge(self) -> int:
        """Delete the expired rows in small batches, and return their number.

        :raises BackendError: the database failed.
        """
        count = 0
        while deleted := self._run(lambda queries, on: queries.purge(on)):
            count += deleted
        return count

    def close(self) -> None:
        self._listeners.close()
        self._database.close()
        self._listen.close()

    def after_fork(self) -> None:
        self._listeners.after_fork()
        self._database.after_fork()
        self._listen.after_fork()

    def _connections_dropped(self) -> int:
        return self._database.connections_dropped + self._listen.connections_dropped

    def _run(self, work: Callable[[Queries, Connection], T]) -> T:
        queries = self._queries_of_table()
        return self._database.run(lambda connection: work(queries, connection))

    def _queries_of_table(self) -> Queries:
        if self._queries is None:
            self._queries = self._database.dialect.queries(
                self.table, lease=self.lease, retention=self.retention
            )
        return self._queries

    def _purge_now_and_then(self) -> None:
        """Purge for a moment, unless a worker has purged within the last minute."""
        now = time.monotonic()
        if now < self._purge_at:
            return
        self._purge_at = now + _PURGE_INTERVAL
        try:
            if self._run(lambda queries, on: queries.claim_purge(on)):
                while time.monotonic() < now + self.timeout / 2:
                    if not self._run(lambda queries, on: queries.purge(on)):
                        break
        except BackendError as error:
            logger.warning("Old rows were not purged: %s", error)

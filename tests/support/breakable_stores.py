"""Stores that a test can take away from its workers, fill, and give back.

Each has the same ways to fail. It may be away; it may answer and take no writes, as a
primary does that became a replica; it may have no room for a task that is new; and it
may refuse one task. Its attributes say which of these it has.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import URL, create_engine, make_url, text

from flask_chatstop import (
    EndReason,
    MemoryBackend,
    Owner,
    RecordRefused,
    StopBackend,
    StopOutcome,
    TaskRecord,
)
from flask_chatstop.backends import RedisBackend
from flask_chatstop.backends.database import DatabaseBackend
from flask_chatstop.backends.redis.script_calls import key
from tests.support.resetting_proxy import ResettingProxy
from tests.support.servers.redis import RedisServer
from tests.support.strict_tables import ANY, TABLES, StrictTable

#: Seconds; long, since a call that is late on a busy machine is one that failed.
TIMEOUT = 10.0
#: While its lock is held, a call takes as long as it may.
SQLITE_TIMEOUT = 0.5


class StrictMemory(MemoryBackend):
    """A store of one process that refuses what a test tells it to."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[str] = set()

    def announce(self, record: TaskRecord) -> bool:
        self._look_at(record.task_id)
        self._look_at(ANY)
        return super().announce(record)

    def renew(self, records: Sequence[TaskRecord]) -> set[str]:
        for record in records:
            self._look_at(record.task_id)
            if not self.tasks(task_id=record.task_id):
                self._look_at(ANY)
        return super().renew(records)

    def stop(self, task_id: str, owner: Owner) -> StopOutcome:
        self._look_at(task_id)
        return super().stop(task_id, owner)

    def end(self, record: TaskRecord, reason: EndReason) -> bool:
        self._look_at(record.task_id)
        return super().end(record, reason)

    def _look_at(self, task_id: str) -> None:
        if task_id in self.refused:
            raise RecordRefused("a rule of the store's own")


class MemoryStore:
    """One that is never away.

    Its methods that do harm are called only where its attributes allow it.
    """

    can_break = can_expire = can_be_read_only = False
    #: When it breaks, and for a task that it is told to refuse.
    loses_data = loses_refused = False
    #: When it takes no writes any more, and a call may be under way on one.
    cuts_connections = False
    #: A stop that finds nothing fails while it is full: the task may run.
    tells_that_it_is_full = False
    #: Workers are rung by sockets that somebody may remove.
    has_sockets = False

    def __init__(self) -> None:
        self._store = StrictMemory()

    def open(self, lease: float = 60.0) -> StopBackend:
        return self._store

    def take_away(self) -> None:
        raise NotImplementedError

    def give_back(self) -> None:
        """Do nothing, since it is there."""

    def remove_sockets(self) -> None:
        raise NotImplementedError

    def make_read_only(self) -> None:
        raise NotImplementedError

    def make_writable(self) -> None:
        """Do nothing, since it is."""

    def refuse(self, task_id: str) -> None:
        self._store.refused.add(task_id)

    def accept(self, task_ids: Sequence[str]) -> None:
        self._store.refused.difference_update(task_ids)

    def fill(self) -> None:
        self.refuse(ANY)

    def make_room(self) -> None:
        self.accept([ANY])

    def close(self) -> None:
        self._store.close()


class SQLiteStore(MemoryStore):
    """A file that another process writes to without an end."""

    can_break = can_expire = has_sockets = True

    def __init__(self, path: str) -> None:
        self._folder = Path(path).parent
        self._url = f"sqlite:///{path}"
        backend = self.open()
        backend.check()
        backend.close()
        self._lock = sqlite3.connect(
            path, timeout=10, isolation_level=None, check_same_thread=False
        )
        for statement in TABLES["sqlite"]:
            self._lock.execute(statement)

    def open(self, lease: float = 60.0) -> StopBackend:
        return DatabaseBackend(self._url, lease=lease, timeout=SQLITE_TIMEOUT)

    def take_away(self) -> None:
        self._lock.execute("BEGIN EXCLUSIVE")

    def give_back(self) -> None:
        if self._lock.in_transaction:
            self._lock.execute("ROLLBACK")

    def remove_sockets(self) -> None:
        """Remove those that the workers are rung by, as somebody who cleans up may."""
        for path in self._folder.iterdir():
            if path.is_socket():
                path.unlink(missing_ok=True)

    def refuse(self, task_id: str) -> None:
        self._lock.execute("INSERT INTO refused VALUES (?)", [task_id])

    def accept(self, task_ids: Sequence[str]) -> None:
        for task_id in task_ids:
            self._lock.execute("DELETE FROM refused WHERE task_id = ?", [task_id])

    def close(self) -> None:
        self._lock.close()


class DatabaseStore(MemoryStore):
    """A server behind a network that breaks.

    :param admin: a URL past that network, whose user may do anything.
    :param default_port: where such a server listens.
    """

    can_break = can_expire = can_be_read_only = True

    def __init__(self, admin: str | URL, default_port: int) -> None:
        url = make_url(admin)
        self._admin = StrictTable(create_engine(url, isolation_level="AUTOCOMMIT"))
        self._proxy = ResettingProxy(url.port or default_port).__enter__()
        self._url = url.set(host="127.0.0.1", port=self._proxy.port)

    def open(self, lease: float = 60.0) -> StopBackend:
        return DatabaseBackend(self._url, lease=lease, timeout=TIMEOUT)

    def take_away(self) -> None:
        self._proxy.refuse()

    def give_back(self) -> None:
        self._proxy.admit()

    def refuse(self, task_id: str) -> None:
        self._admin.refuse(task_id)

    def accept(self, task_ids: Sequence[str]) -> None:
        self._admin.accept(task_ids)

    def close(self) -> None:
        self.make_writable()
        self._proxy.__exit__()
        self._admin.close()


class PostgreSQLStore(DatabaseStore):
    """Its sessions that are open stay read-only when it is writable again."""

    cuts_connections = True

    def make_read_only(self) -> None:
        self._alter("SET default_transaction_read_only = on")
        self._admin.execute(
            # It waits: on a busy machine, one that is yet to end would take a call.
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    def make_writable(self) -> None:
        self._alter("RESET default_transaction_read_only")

    def _alter(self, setting: str) -> None:
        self._admin.execute(f"ALTER DATABASE {self._url.database} {setting}")


class MariaDBStore(DatabaseStore):
    """A server of the test's own, since all of its databases are made read-only."""

    def __init__(self, root: str, default_port: int) -> None:
        url = make_url(root)
        server = create_engine(url)
        # Its own database has tables that take no triggers, and root may write to a
        # server that is read-only.
        with server.connect() as connection:
            connection.execute(text("CREATE OR REPLACE DATABASE protocol"))
            connection.execute(text("CREATE OR REPLACE USER chat@'127.0.0.1'"))
            connection.execute(text("GRANT ALL ON protocol.* TO chat@'127.0.0.1'"))
        server.dispose()
        backend = DatabaseBackend(url.set(database="protocol"))
        backend.create_table()
        backend.close()
        super().__init__(url.set(database="protocol"), default_port)
        self._url = self._url.set(username="chat", password=None)

    def make_read_only(self) -> None:
        self._admin.execute("SET GLOBAL read_only = 1")

    def make_writable(self) -> None:
        self._admin.execute("SET GLOBAL read_only = 0")


class RedisStore(MemoryStore):
    """A server that is killed and comes back empty."""

    can_break = can_expire = can_be_read_only = True
    loses_data = loses_refused = tells_that_it_is_full = True

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._is_up = True

    def open(self, lease: float = 60.0) -> StopBackend:
        return RedisBackend(self._server.url, lease=lease, timeout=TIMEOUT)

    def take_away(self) -> None:
        self._server.kill()
        self._is_up = False

    def give_back(self) -> None:
        if not self._is_up:
            self._server.start()
            self._is_up = True

    def make_read_only(self) -> None:
        self._server.ask("REPLICAOF", "127.0.0.1", "1")

    def make_writable(self) -> None:
        self._server.ask("REPLICAOF", "NO", "ONE")

    def refuse(self, task_id: str) -> None:
        self._server.ask("SET", f"chatstop:{key(task_id)}", "somebody else's")

    def accept(self, task_ids: Sequence[str]) -> None:
        for task_id in task_ids:
            self._server.ask("DEL", f"chatstop:{key(task_id)}")

    def fill(self) -> None:
        self._server.ask("CONFIG", "SET", "maxmemory", "1")

    def make_room(self) -> None:
        self._server.ask("CONFIG", "SET", "maxmemory", "0")

    def close(self) -> None:
        self.give_back()

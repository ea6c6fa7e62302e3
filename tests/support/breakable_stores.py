"""Stores that a test can take away from its workers and give back."""

import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock
from typing import Any

from sqlalchemy import make_url

from flask_chatstop import (
    BackendError,
    EndReason,
    MemoryBackend,
    Owner,
    StopBackend,
    StopOutcome,
    TaskInfo,
    TaskRecord,
)
from flask_chatstop.backends import RedisBackend
from flask_chatstop.backends.database import DatabaseBackend
from tests.support.resetting_proxy import ResettingProxy
from tests.support.servers.redis import RedisServer

#: Seconds; long, since a call that is late on a busy machine is one that failed.
TIMEOUT = 2.0
#: While its lock is held, a call takes as long as it may.
SQLITE_TIMEOUT = 0.5


class Line(StopBackend):
    """What leads from one worker to its store, and can be cut or lose its rings."""

    def __init__(self, store: StopBackend) -> None:
        super().__init__(
            lease=store.lease, retention=store.retention, timeout=store.timeout
        )
        self._store = store
        self.is_cut = False
        self.is_deaf = False
        #: Rings that have not been heard: they are lost, or late.
        self.unheard: set[str] = set()
        self._heard: Callable[[Collection[str]], None] | None = None
        self._lock = Lock()
        self._calls = 0

    @property
    def is_quiet(self) -> bool:
        """Whether no call is under way that went out before the line was cut."""
        return self._calls == 0

    def ring_late(self) -> None:
        """Let the worker hear what it did not."""
        unheard, self.unheard = self.unheard, set()
        if self._heard is not None:
            self._heard(unheard)

    def announce(self, record: TaskRecord) -> bool:
        with self._reached() as store:
            return store.announce(record)

    def renew(self, records: Sequence[TaskRecord]) -> set[str]:
        with self._reached() as store:
            return store.renew(records)

    def stop(self, task_id: str, owner: Owner) -> StopOutcome:
        with self._reached() as store:
            return store.stop(task_id, owner)

    def end(self, record: TaskRecord, reason: EndReason) -> bool:
        with self._reached() as store:
            return store.end(record, reason)

    def stops(self, worker_id: str, task_ids: Collection[str]) -> set[str]:
        with self._reached() as store:
            return store.stops(worker_id, task_ids)

    def tasks(self, **wanted: Any) -> list[TaskInfo]:
        with self._reached() as store:
            return store.tasks(**wanted)

    def listen(
        self,
        worker_id: str,
        running: Callable[[], Collection[str]],
        heard: Callable[[Collection[str]], None],
        closing: Event,
    ) -> None:
        def heard_unless_deaf(task_ids: Collection[str]) -> None:
            if self.is_deaf or self.is_cut:
                self.unheard.update(task_ids)
            else:
                heard(task_ids)

        self._heard = heard
        with self._reached():
            pass
        self._store.listen(worker_id, running, heard_unless_deaf, closing)

    def check(self) -> None:
        with self._reached() as store:
            store.check()

    def close(self) -> None:
        self._store.close()

    @contextmanager
    def _reached(self) -> Iterator[StopBackend]:
        self._count(1)  # before the look: it may be cut meanwhile
        try:
            if self.is_cut:
                raise BackendError("the line is cut")
            yield self._store
        finally:
            self._count(-1)

    def _count(self, calls: int) -> None:
        with self._lock:
            self._calls += calls


class MemoryStore:
    """One that is never away."""

    can_break = can_expire = False
    loses_data = has_sockets = False

    def __init__(self) -> None:
        self._store = MemoryBackend()

    def open(self, lease: float = 60.0) -> StopBackend:
        return self._store

    def take_away(self) -> None:
        raise NotImplementedError

    def give_back(self) -> None:
        """Do nothing, since it is there."""

    def remove_sockets(self) -> None:
        raise NotImplementedError

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

    def close(self) -> None:
        self._lock.close()


class DatabaseStore(MemoryStore):
    """A server behind a network that breaks.

    :param default_port: where such a server listens.
    """

    can_break = can_expire = True

    def __init__(self, url: str, default_port: int) -> None:
        own = make_url(url)
        self._proxy = ResettingProxy(own.port or default_port).__enter__()
        self._url = own.set(host="127.0.0.1", port=self._proxy.port)

    def open(self, lease: float = 60.0) -> StopBackend:
        return DatabaseBackend(self._url, lease=lease, timeout=TIMEOUT)

    def take_away(self) -> None:
        self._proxy.refuse()

    def give_back(self) -> None:
        self._proxy.admit()

    def close(self) -> None:
        self._proxy.__exit__()


class RedisStore(MemoryStore):
    """A server that is killed and comes back empty."""

    can_break = can_expire = loses_data = True

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

    def close(self) -> None:
        self.give_back()

"""The engine of the database backend, and calls of bounded length on it."""

import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import Any, TypeVar
from weakref import WeakSet

from sqlalchemy import URL, Connection, Engine, Table
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable

from flask_chatstop.backends.database.drivers import (
    bounded,
    is_refused,
    is_stale,
    make_engine,
)
from flask_chatstop.backends.database.semaphore import FairSemaphore
from flask_chatstop.errors import BackendError, ChatStopError, ConfigurationError

T = TypeVar("T")

# The state of the random module is the app's.
_random = random.SystemRandom()

Source = URL | Engine | Callable[[], Engine]

# What a process truly shares: a fork concerns every file in it.
_sqlite_databases: "WeakSet[Database]" = WeakSet()

_DIALECTS = ("sqlite", "postgresql", "mysql", "mariadb")


class Database:
    """One database, connected to with the first call.

    :param source: a URL, an engine, or what gives an engine.
    :param table: created by itself on SQLite.
    :param timeout: seconds that one call may take.
    """

    def __init__(self, source: Source, table: Table, *, timeout: float) -> None:
        self._source = source
        self._table = table
        self._timeout = timeout
        self._engine: Engine | None = None
        self._turns: FairSemaphore | None = None
        self._lock = threading.Lock()
        self._is_forking = False

    def __str__(self) -> str:
        source = self._engine or self._source
        url = source.url if isinstance(source, Engine) else source
        # A query may hold a password too, and that one SQLAlchemy does not hide.
        if isinstance(url, URL):
            return url.set(query={}).render_as_string()
        return repr(url)

    @property
    def engine(self) -> Engine:
        """Give the engine, made or asked for the first time.

        :raises BackendError: the callable gave none.
        :raises ConfigurationError: it cannot serve as a store.
        """
        with self._lock:
            if self._engine is None:
                self._engine = self._open()
            return self._engine

    def run(self, work: Callable[[Connection], T]) -> T:
        """Do some work with a connection, within the timeout.

        :param work: may be done again when the database refused a statement in it.
        :raises BackendError: it failed.
        """
        deadline = time.monotonic() + self._timeout
        engine, turns = self.engine, self._turns
        with turns.taken(deadline) if turns else nullcontext():
            return self._attempt(engine, work, deadline)

    def create_table(self) -> None:
        """Create the table and its indexes where they are not."""
        self.run(self._create)

    def _attempt(
        self, engine: Engine, work: Callable[[Connection], T], deadline: float
    ) -> T:
        while True:
            try:
                with (
                    _connection(engine, deadline) as (connection, driver),
                    bounded(driver, deadline),
                ):
                    return work(connection)
            except ChatStopError:
                raise
            except Exception as error:
                # Of any class: drivers let OSError and UnicodeError through.
                if not self._may_go_on(engine, error, deadline):
                    raise self.failure(error) from getattr(error, "orig", error)

    @contextmanager
    def doorbell(self) -> Iterator[Any]:
        """Give a driver's connection that the pool does without, and close it after.

        :raises BackendError: there is none, or its driver failed while it was used.
        """
        engine, deadline = self.engine, time.monotonic() + self._timeout
        try:
            with ExitStack() as stack:
                # In its turn, for the pool has no place for one more.
                with self._turns.taken(deadline) if self._turns else nullcontext():
                    opened = stack.enter_context(_connection(engine, deadline))
                    opened[0].detach()
                yield opened[1]
        except ChatStopError:
            raise
        except Exception as error:
            raise self.failure(error) from getattr(error, "orig", error)

    def close(self) -> None:
        """Close the connections of an engine of our own."""
        with self._lock:
            if self._engine is not None and self._turns is not None:
                self._engine.dispose()

    def before_fork(self) -> None:
        """Have no connection open while the process forks, and none in use."""
        if self._turns is not None:
            with suppress(BackendError):  # it hangs: then it cannot be helped
                self._turns.take(time.monotonic() + self._timeout)
                self._is_forking = True
        if self._engine is not None:
            self._engine.dispose()

    def after_fork_in_parent(self) -> None:
        """Let connections be used again."""
        if self._is_forking and self._turns is not None:
            self._is_forking = False
            self._turns.give()

    def after_fork(self) -> None:
        """Leave every connection to the parent."""
        self._is_forking = False
        self._lock = threading.Lock()
        if self._turns is not None:
            self._turns = FairSemaphore(self._turns.places)
        if self._engine is not None:
            self._engine.dispose(close=False)

    def failure(self, error: Exception) -> BackendError:
        """Say what is wrong and what to do, without a password."""
        orig = getattr(error, "orig", None) or error
        if _is_missing_table(orig):
            return BackendError(
                f"{self} has no table {self._table.fullname}; create it with"
                " `flask chatstop init-db`."
            )
        text = " ".join(str(orig).split())
        url = self.engine.url
        for password in (url.password, url.query.get("password")):
            text = text.replace(str(password), "***") if password else text
        if "unable to open database file" in text:
            text += "; its directory must exist and be writable"
        return BackendError(f"{self}: {text}")

    def _open(self) -> Engine:
        source = self._source
        if isinstance(source, URL):
            return self._open_own(source)
        try:
            engine = source if isinstance(source, Engine) else source()
        except ChatStopError:
            raise
        except Exception as error:
            raise BackendError(f"The callable gave no engine: {error}") from error
        name = engine.dialect.name if isinstance(engine, Engine) else repr(engine)
        if name not in _DIALECTS:
            raise ConfigurationError(
                f"The engine is {name}; use one of {', '.join(_DIALECTS)}."
            )
        # Of SQLite the file is all that is needed, and how long to wait for its lock
        # is ours to say only on connections of our own.
        if name == "sqlite":
            return self._open_own(engine.url, keep_journal=True)
        return engine.execution_options(isolation_level="AUTOCOMMIT")

    def _open_own(self, url: URL, *, keep_journal: bool = False) -> Engine:
        # SQLite writes for one at a time; its threads may as well wait here.
        places = 1 if url.get_backend_name() == "sqlite" else 10
        self._turns = FairSemaphore(places)
        if places == 1:
            _sqlite_databases.add(self)
        return make_engine(
            url, self._timeout, pool_size=places, keep_journal=keep_journal
        )

    def _may_go_on(self, engine: Engine, error: Exception, deadline: float) -> bool:
        """Wait after a refusal, or create SQLite's table; tell whether to try again."""
        orig: object = error
        if isinstance(error, SQLAlchemyError):
            orig = error.orig if isinstance(error, DBAPIError) else None
        if orig is None or time.monotonic() > deadline:
            return False
        if isinstance(orig, sqlite3.Error) and _is_missing_table(orig):
            self._attempt(engine, self._create, deadline)
            return True
        if not is_refused(orig):
            return False
        time.sleep(_random.uniform(0.0005, 0.005))
        return True

    def _create(self, connection: Connection) -> None:
        if connection.dialect.name != "sqlite":
            self._table.create(connection, checkfirst=True)
            return
        # Not Table.create(): two processes would both look first and then create.
        connection.execute(CreateTable(self._table, if_not_exists=True))
        for index in self._table.indexes:
            connection.execute(CreateIndex(index, if_not_exists=True))


@contextmanager
def _connection(engine: Engine, deadline: float) -> Iterator[tuple[Connection, Any]]:
    """Give a connection that its server has not cut, and its driver's."""
    while True:
        with engine.connect() as connection:
            driver = connection.connection.driver_connection
            if is_stale(driver) and time.monotonic() < deadline:
                connection.invalidate()
                continue
            yield connection, driver
            return


def _is_missing_table(error: BaseException) -> bool:
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    is_mysqls = error.args[:1] == (1146,)
    return state == "42P01" or is_mysqls or "no such table" in str(error)


def _before_fork() -> None:
    # SQLite knows the locks of a process by its memory, which the child inherits
    # without the locks: https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_
    for database in list(_sqlite_databases):
        database.before_fork()


def _after_fork_in_parent() -> None:
    for database in list(_sqlite_databases):
        database.after_fork_in_parent()


def _after_fork_in_child() -> None:
    for database in list(_sqlite_databases):
        database.after_fork()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)

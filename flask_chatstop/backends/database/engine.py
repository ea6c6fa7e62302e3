"""The engine of the database backend, and calls of bounded length on it."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, Table
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from flask_chatstop.backends.database.base import Dialect
from flask_chatstop.backends.database.connections import Connections
from flask_chatstop.backends.database.failures import failure
from flask_chatstop.backends.database.greenlet_forks import calls
from flask_chatstop.backends.database.opening import Source, open_engine
from flask_chatstop.backends.database.sqlite_forks import files
from flask_chatstop.errors import BackendError, ChatStopError
from flask_chatstop.logs import get_logger

logger = get_logger(__name__)

T = TypeVar("T")

# A generator of our own: the state of the random module belongs to the app.
_random = random.SystemRandom()


class Database:
    """One database; the first call connects to it.

    :param source: as :func:`~flask_chatstop.backends.database.opening.source_of`
        returns it.
    :param tables: the tables, which are created when one is missing from a file.
    :param timeout: seconds that one call may take.
    """

    def __init__(self, source: Source, *tables: Table, timeout: float) -> None:
        self._source = source
        self.tables = tables
        self._timeout = timeout
        self._connections: Connections | None = None
        self._lock = threading.Lock()
        #: How often all connections were dropped, since they led to a wrong server.
        self.connections_dropped = 0

    def __str__(self) -> str:
        source = self._connections.engine if self._connections else self._source
        url = source.url if isinstance(source, Engine) else source
        # The query may contain a password too, and SQLAlchemy does not hide that one.
        if isinstance(url, URL):
            return url.set(query={}).render_as_string()
        return repr(url)

    @property
    def engine(self) -> Engine:
        """The engine, which its first use makes or asks for.

        :raises BackendError: the function returned no engine.
        :raises ConfigurationError: the backend does not know the database.
        """
        return self._open().engine

    @property
    def dialect(self) -> Dialect:
        """The dialect of :attr:`engine`."""
        return self._open().dialect

    def run(self, work: Callable[[Connection], T], *, reconnects: bool = True) -> T:
        """Call a function with a connection, within the timeout.

        Under gevent, a fork that is waiting comes first, and takes half a second at
        most.

        :param work: is called again if one of its statements gave way to another.
        :param reconnects: whether to drop all connections, and to call it once more, if
            they lead to a wrong server.
        :raises BackendError: it failed.
        """
        connections = self._open()
        with self.call():
            deadline = time.monotonic() + self._timeout
            with connections.turn(deadline):
                return self._attempt(connections, work, deadline, reconnects)

    def call(self) -> AbstractContextManager[None]:
        """Keep what is read in the block from being read in a forked child too."""
        # A file has no connection then.
        return nullcontext() if self.dialect.is_file else calls.call()

    def create_tables(self) -> None:
        """Create the tables and their indexes unless they exist."""
        self.run(self._create)

    @contextmanager
    def detached(self) -> Iterator[Any]:
        """Open a driver's connection outside of the pool, and close it afterwards.

        :raises BackendError: it cannot connect, or the driver failed in the block.
        """
        connections, deadline = self._open(), time.monotonic() + self._timeout
        try:
            with ExitStack() as stack:
                # It waits for its turn, since a fork closes those of a file.
                with connections.turn(deadline):
                    connection, driver = stack.enter_context(
                        connections.taken(deadline, is_kept=False)
                    )
                    connection.detach()
                yield driver
        except ChatStopError:
            raise
        except Exception as error:
            raise self.failure(error) from getattr(error, "orig", error)

    def close(self) -> None:
        """Close the connections, unless the engine is the caller's."""
        with self._lock:
            if self._connections is not None:
                self._connections.close()

    def before_fork(self) -> None:
        """Close every connection, and let nobody open one until the fork is over."""
        if self._connections is not None:
            self._connections.before_fork(time.monotonic() + self._timeout)

    def after_fork_in_parent(self) -> None:
        """Allow connections again."""
        if self._connections is not None:
            self._connections.after_fork_in_parent()

    def after_fork(self) -> None:
        """Leave every connection to the parent."""
        self._lock = threading.Lock()
        if self._connections is not None:
            self._connections.after_fork()

    def failure(self, error: Exception) -> BackendError:
        """Say what is wrong and what to do, without a password."""
        return failure(error, self.engine, str(self), self.tables)

    def _open(self) -> Connections:
        if self._connections is None:
            # Without the lock. The function of an app may do I/O, and the lock may be
            # older than gevent's patches: whoever waits for it would stop every
            # greenlet, the one that holds it included.
            opened = open_engine(self._source, self._timeout)
            with self._lock:
                if self._connections is None:
                    self._connections = opened
                    if opened.dialect.is_file:
                        files.add(self)
        return self._connections

    def _attempt(
        self,
        connections: Connections,
        work: Callable[[Connection], T],
        deadline: float,
        reconnects: bool = True,
    ) -> T:
        dialect = connections.dialect
        outdated: BackendError | None = None
        while True:
            try:
                with (
                    connections.taken(deadline) as (connection, driver),
                    dialect.bounded(driver, deadline),
                ):
                    result = work(connection)
            except ChatStopError:
                raise
            except Exception as error:
                # Of any class: drivers let OSError and UnicodeError through.
                if self._may_go_on(connections, error, deadline):
                    continue
                orig = getattr(error, "orig", error)
                is_first = outdated is None and time.monotonic() < deadline
                if not (reconnects and is_first and dialect.is_outdated(orig)):
                    raise self.failure(error) from orig
                outdated = self.failure(error)
                self.connections_dropped += 1
                connections.dispose()
                continue
            if outdated is not None:
                logger.warning("Opened new connections, which serve: %s", outdated)
            return result

    def _may_go_on(
        self, connections: Connections, error: Exception, deadline: float
    ) -> bool:
        """Remove the cause of an error, or wait; return whether to try again."""
        orig: object = error
        if isinstance(error, SQLAlchemyError):
            orig = error.orig if isinstance(error, DBAPIError) else None
        if orig is None or time.monotonic() > deadline:
            return False
        dialect = connections.dialect
        if dialect.is_file and dialect.is_missing_table(orig):
            self._attempt(connections, self._create, deadline)
            return True
        if not dialect.may_retry(orig):
            return False
        time.sleep(_random.uniform(0.0005, 0.005))
        return True

    def _create(self, connection: Connection) -> None:
        for table in self.tables:
            self.dialect.create_table(connection, table)

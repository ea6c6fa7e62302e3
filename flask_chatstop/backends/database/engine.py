"""The engine of the database backend, and calls of bounded length on it."""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, Table
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from flask_chatstop.backends.database.base import Dialect
from flask_chatstop.backends.database.connecting import Connecting
from flask_chatstop.backends.database.dialects import dialect_of
from flask_chatstop.backends.database.failures import failure
from flask_chatstop.backends.database.opening import Source, open_engine
from flask_chatstop.backends.database.semaphore import FairSemaphore
from flask_chatstop.backends.database.sqlite_forks import files
from flask_chatstop.errors import BackendError, ChatStopError

logger = logging.getLogger(__name__)

T = TypeVar("T")

# A generator of our own: the state of the random module belongs to the app.
_random = random.SystemRandom()


class Database:
    """One database; the first call connects to it.

    :param source: a URL, an engine, or a function that returns an engine.
    :param table: the table, which is created when it is missing from a file.
    :param timeout: seconds that one call may take.
    """

    def __init__(self, source: Source, table: Table, *, timeout: float) -> None:
        self._source = source
        self._table = table
        self._timeout = timeout
        self._engine: Engine | None = None
        self._turns: FairSemaphore | None = None
        self._connecting: Connecting | None = None
        self._lock = threading.Lock()
        self._is_forking = False
        #: How often all connections were dropped, since they led to a wrong server.
        self.connections_dropped = 0

    def __str__(self) -> str:
        source = self._engine or self._source
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
        if self._engine is None:
            # Without the lock. The function of an app may do I/O, and the lock may be
            # older than gevent's patches: whoever waits for it would stop every
            # greenlet, the one that holds it included.
            opened = open_engine(self._source, self._timeout)
            with self._lock:
                if self._engine is None:
                    self._turns, self._connecting = opened.turns, opened.connecting
                    self._engine = opened.engine
                    if dialect_of(opened.engine).is_file:
                        files.add(self)
        return self._engine

    @property
    def dialect(self) -> Dialect:
        """The dialect of :attr:`engine`."""
        return dialect_of(self.engine)

    def run(self, work: Callable[[Connection], T], *, reconnects: bool = True) -> T:
        """Call a function with a connection, within the timeout.

        :param work: is called again if one of its statements gave way to another.
        :param reconnects: whether to drop all connections, and to call it once more, if
            they lead to a wrong server.
        :raises BackendError: it failed.
        """
        deadline = time.monotonic() + self._timeout
        engine, turns = self.engine, self._turns
        with turns.taken(deadline) if turns else nullcontext():
            return self._attempt(engine, work, deadline, reconnects)

    def create_table(self) -> None:
        """Create the table and its indexes unless they exist."""
        self.run(self._create)

    @contextmanager
    def detached(self) -> Iterator[Any]:
        """Open a driver's connection outside of the pool, and close it afterwards.

        :raises BackendError: it cannot connect, or the driver failed in the block.
        """
        engine, deadline = self.engine, time.monotonic() + self._timeout
        try:
            with ExitStack() as stack:
                # It waits for its turn, since the pool has no room for one more.
                with self._turns.taken(deadline) if self._turns else nullcontext():
                    opened = stack.enter_context(self._connection(engine, deadline))
                    opened[0].detach()
                yield opened[1]
        except ChatStopError:
            raise
        except Exception as error:
            raise self.failure(error) from getattr(error, "orig", error)

    def close(self) -> None:
        """Close the connections, unless the engine is the caller's."""
        with self._lock:
            if self._engine is not None and self._turns is not None:
                self._engine.dispose()

    def before_fork(self) -> None:
        """Close every connection, and let nobody open one until the fork is over."""
        if self._turns is not None:
            with suppress(BackendError):  # the call in progress hangs: fork anyway
                self._turns.take(time.monotonic() + self._timeout)
                self._is_forking = True
        if self._engine is not None:
            self._engine.dispose()

    def after_fork_in_parent(self) -> None:
        """Allow connections again."""
        if self._is_forking and self._turns is not None:
            self._is_forking = False
            self._turns.give()

    def after_fork(self) -> None:
        """Leave every connection to the parent."""
        self._is_forking = False
        self._lock = threading.Lock()
        if self._turns is not None:
            self._turns = FairSemaphore(self._turns.places)
        if self._connecting is not None:
            self._connecting.after_fork()
        if self._engine is not None:
            self._engine.dispose(close=False)

    def failure(self, error: Exception) -> BackendError:
        """Say what is wrong and what to do, without a password."""
        return failure(error, self.engine, str(self), self._table)

    def _attempt(
        self,
        engine: Engine,
        work: Callable[[Connection], T],
        deadline: float,
        reconnects: bool = True,
    ) -> T:
        dialect = dialect_of(engine)
        outdated: BackendError | None = None
        while True:
            try:
                with (
                    self._connection(engine, deadline) as (connection, driver),
                    dialect.bounded(driver, deadline),
                ):
                    result = work(connection)
            except ChatStopError:
                raise
            except Exception as error:
                # Of any class: drivers let OSError and UnicodeError through.
                if self._may_go_on(engine, error, deadline):
                    continue
                orig = getattr(error, "orig", error)
                is_first = outdated is None and time.monotonic() < deadline
                if not (reconnects and is_first and dialect.is_outdated(orig)):
                    raise self.failure(error) from orig
                outdated = self.failure(error)
                self.connections_dropped += 1
                engine.dispose()
                continue
            if outdated is not None:
                logger.warning("Opened new connections, which serve: %s", outdated)
            return result

    def _may_go_on(self, engine: Engine, error: Exception, deadline: float) -> bool:
        """Remove the cause of an error, or wait; return whether to try again."""
        orig: object = error
        if isinstance(error, SQLAlchemyError):
            orig = error.orig if isinstance(error, DBAPIError) else None
        if orig is None or time.monotonic() > deadline:
            return False
        dialect = dialect_of(engine)
        if dialect.is_file and dialect.is_missing_table(orig):
            self._attempt(engine, self._create, deadline)
            return True
        if not dialect.may_retry(orig):
            return False
        time.sleep(_random.uniform(0.0005, 0.005))
        return True

    def _create(self, connection: Connection) -> None:
        self.dialect.create_table(connection, self._table)

    @contextmanager
    def _connection(
        self, engine: Engine, deadline: float
    ) -> Iterator[tuple[Connection, Any]]:
        """Take a connection that its server has not cut, and its driver's."""
        is_stale = dialect_of(engine).is_stale
        while True:
            pool, own = engine.pool, self._connecting
            with own.connected(engine, deadline) if own else engine.connect() as taken:
                driver = taken.connection.driver_connection
                if is_stale(driver) and time.monotonic() < deadline:
                    taken.invalidate()
                    continue
                try:
                    yield taken, driver
                finally:
                    if engine.pool is not pool and not taken.invalidated:
                        # All were dropped meanwhile. The old pool would not close it.
                        taken.detach()
                return

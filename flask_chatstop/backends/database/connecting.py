"""Connecting as an app's engine does, but no longer than a call may take.

How long a driver tries to connect is a matter of the engine's own options, which cannot
be read from it. So a thread connects, and a caller waits for it until the deadline.
"""

import contextvars
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from sqlalchemy import Connection, Engine
from sqlalchemy.pool import QueuePool

from flask_chatstop.backends.database.greenlet_forks import calls
from flask_chatstop.backends.database.kept import close, dispose
from flask_chatstop.backends.database.semaphore import FairSemaphore
from flask_chatstop.errors import BackendError


class Connecting:
    """Gives connections of an engine that is made as an app's is.

    :param places: threads that may connect at once. One whose caller has given up goes
        on for as long as the driver tries.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self.after_fork()

    def after_fork(self) -> None:
        """Begin anew in a forked child, where no thread connects."""
        self._turns = FairSemaphore(self._places)
        self._is_well = False
        self._disposing = threading.Lock()

    def dispose(self, engine: Engine) -> None:
        """Close the idle connections, and the others after their use."""
        with self._disposing:
            dispose(engine)

    @contextmanager
    def connected(self, engine: Engine, deadline: float) -> Iterator[Connection]:
        """Take a connection for the length of the block.

        :raises BackendError: there is none before the deadline.
        """
        pool = engine.pool
        try:
            if self._is_well and _has_idle_connections(engine):
                connection = engine.connect()  # at once: a thread takes 0.1 ms
            else:
                self._turns.take(deadline)
                connection = _Attempt(engine, self._turns).result(deadline)
            try:
                yield connection
            finally:
                close(connection, pool, engine)
        except BaseException:
            self._is_well = False
            raise
        self._is_well = True


def _has_idle_connections(engine: Engine) -> bool:
    """Return whether a connection needs nothing from the server before its use."""
    pool = engine.pool
    # A pool with these options may reconnect where it hands out an idle one.
    asks = getattr(pool, "_pre_ping", True) or getattr(pool, "_recycle", 0) != -1
    return isinstance(pool, QueuePool) and pool.checkedin() > 0 and not asks


class _Attempt:
    """A thread that connects."""

    def __init__(self, engine: Engine, turns: FairSemaphore) -> None:
        self._engine, self._turns = engine, turns
        self._pool = engine.pool
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._is_late = False
        self._connection: Connection | None = None
        self._error: BaseException | None = None
        # A function of the app may need the context of its caller.
        run = partial(contextvars.copy_context().run, self._run)
        name = threading.current_thread().name
        try:
            threading.Thread(target=run, name=name, daemon=True).start()
        except BaseException:
            turns.give()
            raise

    def result(self, deadline: float) -> Connection:
        """Return the connection, or raise what connecting has raised.

        :raises BackendError: it does neither before the deadline.
        """
        try:
            with calls.nothing_is_read():  # here: it is in the other thread
                self._is_over.wait(max(0.0, deadline - time.monotonic()))
        except BaseException:
            if not self._leave() and self._connection is not None:
                self._give_back(self._connection)
            raise
        if self._is_over.is_set() or not self._leave():
            if self._error is not None:
                raise self._error
            if self._connection is not None:
                return self._connection
        raise BackendError("Connecting to the database takes longer than the timeout.")

    def _leave(self) -> bool:
        """Wait no longer, and return whether the thread still connects."""
        with self._lock:
            self._is_late = True
            return self._connection is None and self._error is None

    def _run(self) -> None:
        connection: Connection | None = None
        try:
            with calls.call():
                connection = self._engine.connect()
        except BaseException as error:  # is the caller's
            self._error = error
        finally:
            self._turns.give()
        with self._lock:
            if connection is not None and self._is_late:
                self._give_back(connection)  # for the next call
            else:
                self._connection = connection
        self._is_over.set()

    def _give_back(self, connection: Connection) -> None:
        close(connection, self._pool, self._engine)

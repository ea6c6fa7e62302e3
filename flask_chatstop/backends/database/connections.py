"""The connections of one engine: who may take one, and what a fork does to them."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

from sqlalchemy import Connection, Engine

from flask_chatstop.backends.database.connecting import Connecting
from flask_chatstop.backends.database.dialects import dialect_of
from flask_chatstop.backends.database.kept import KeptConnections
from flask_chatstop.backends.database.semaphore import FairSemaphore
from flask_chatstop.errors import BackendError


class Connections:
    """The connections of one engine, which connects with the first that is taken.

    :param turns: bounds the connections of an engine of the backend's own. It is None
        where the engine's connections are the app's.
    :param connecting: bounds how long it takes to connect. It is None where that is
        the driver's to bound.
    :param kept: gives the connections of an engine that was made from a URL.
    """

    def __init__(
        self,
        engine: Engine,
        turns: FairSemaphore | None,
        *,
        connecting: Connecting | None = None,
        kept: KeptConnections | None = None,
    ) -> None:
        self.engine, self.dialect = engine, dialect_of(engine)
        self._turns, self._connecting, self._kept = turns, connecting, kept
        self._is_forking = False

    def turn(self, deadline: float) -> AbstractContextManager[None]:
        """Wait for the right to use a connection, and have it for the block.

        :raises BackendError: the others have it until the deadline.
        """
        return nullcontext() if self._turns is None else self._turns.taken(deadline)

    @contextmanager
    def taken(
        self, deadline: float, *, is_kept: bool = True
    ) -> Iterator[tuple[Connection, Any]]:
        """Take a connection that its server has not cut, and its driver's.

        :param is_kept: whether a later call may use it too.
        """
        is_stale = self.dialect.is_stale
        while True:
            with self._taken(deadline, is_kept) as taken:
                driver = taken.connection.driver_connection
                if is_stale(driver) and time.monotonic() < deadline:
                    taken.invalidate()
                    continue
                yield taken, driver
                return

    def dispose(self) -> None:
        """Close the idle connections; those in use are closed after their use."""
        if self._kept is not None:
            self._kept.close()
        elif self._connecting is not None:
            self._connecting.dispose(self.engine)
        else:
            self.engine.dispose()

    def close(self) -> None:
        """Close the connections, unless the engine is the caller's."""
        if self._turns is not None:
            self.dispose()

    def before_fork(self, deadline: float) -> None:
        """Close every connection, and let nobody open one until the fork is over."""
        if self._turns is not None:
            with suppress(BackendError):  # the call in progress hangs: fork anyway
                self._turns.take(deadline)
                self._is_forking = True
        self.dispose()

    def after_fork_in_parent(self) -> None:
        """Allow connections again."""
        if self._is_forking and self._turns is not None:
            self._is_forking = False
            self._turns.give()

    def after_fork(self) -> None:
        """Leave every connection to the parent."""
        self._is_forking = False
        if self._turns is not None:
            self._turns = FairSemaphore(self._turns.places)
        if self._connecting is not None:
            self._connecting.after_fork()
        self.engine.dispose(close=False)
        if self._kept is not None:
            self._kept = KeptConnections(self.engine)

    def _taken(
        self, deadline: float, is_kept: bool
    ) -> AbstractContextManager[Connection]:
        if is_kept and self._kept is not None:
            return self._kept.taken()
        if self._connecting is not None:
            return self._connecting.connected(self.engine, deadline)
        return self.engine.connect()

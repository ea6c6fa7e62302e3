"""The listeners of one process on one database, and how they leave it."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from flask_chatstop.backends.database.base import ListenEnd, Listening
from flask_chatstop.backends.database.engine import Database
from flask_chatstop.backends.database.greenlet_forks import calls
from flask_chatstop.errors import BackendError


@dataclass(frozen=True, slots=True, eq=False)
class _Leaving:
    """A listener, which leaves its connection in order when the process exits.

    A query that sleeps on a connection which was cut is an error in the server's log.
    """

    closing: threading.Event
    ring: Callable[[], None]
    done: threading.Event = field(default_factory=threading.Event)

    def hurry(self, seconds: float) -> None:
        """Wake the listener, and wait so long until it has left."""
        with suppress(BackendError):
            self.ring()
        self.done.wait(seconds)


class Listeners:
    """Those who listen on connections of one database.

    :param timeout: seconds that one may take to leave.
    """

    def __init__(self, database: Database, *, timeout: float) -> None:
        self._database = database
        self._timeout = timeout
        self._listening: set[_Leaving] = set()

    @property
    def can_listen(self) -> bool:
        """Whether :meth:`hear` works with the driver of the database."""
        return self._database.dialect.can_listen(self._database.engine)

    def hear(self, listening: Listening) -> ListenEnd:
        """Listen until it is over, or turns out to be impossible.

        :raises BackendError: the database failed.
        """
        # A predecessor that leaves says once more where it sleeps, in the same row. No
        # ring would arrive here then.
        self.close()
        if listening.closing.is_set():
            return ListenEnd.OVER
        leaving = _Leaving(listening.closing, listening.ring)
        self._listening.add(leaving)
        end = ListenEnd.AGAIN
        try:
            while end is ListenEnd.AGAIN:
                calls.wait_for_forks()  # as call() does, but it would count the copy
                listening.leave_to_parent()
                with self._database.call(), self._database.detached() as driver:
                    end = self._database.dialect.listen(driver, listening)
        except BackendError:
            # The listener that follows may cut the connection of this one.
            if not listening.closing.is_set():
                raise
            end = ListenEnd.OVER
        finally:
            self._listening.discard(leaving)
            leaving.done.set()
        return end

    def close(self) -> None:
        """Wait for the listeners whose ``closing`` is set."""
        for leaving in list(self._listening):
            if leaving.closing.is_set():
                leaving.hurry(self._timeout)

    def after_fork(self) -> None:
        """Leave the listeners to the parent."""
        self._listening = set()

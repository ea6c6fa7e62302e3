"""How one listens on a SQLite file: by a doorbell, and by watching the file.

``PRAGMA data_version`` changes when another connection has written. So it tells of
what was written by those who do not ring.
"""

import sqlite3
import time
from contextlib import closing

from flask_chatstop.backends.database.base import ListenEnd, Listening
from flask_chatstop.backends.database.sqlite_connection import SQLiteConnection
from flask_chatstop.backends.database.sqlite_doorbell import Doorbell, Ringer
from flask_chatstop.backends.database.sqlite_forks import watchers
from flask_chatstop.logs import get_logger

logger = get_logger(__name__)

#: Seconds between two looks at the file: while news come without a ring, and while
#: they come with one.
_OFTEN = 0.01
_SELDOM = 0.5


class SQLiteListener:
    """One listening.

    :param driver: a connection that nothing else uses.
    """

    def __init__(self, driver: SQLiteConnection, listening: Listening) -> None:
        self._driver = driver
        self._listening = listening
        self._doorbell: Doorbell | None = None
        self._interval = _OFTEN
        #: Whether a fork has closed the connection.
        self._is_closed = False
        #: Whether this is a forked child, and the parent listens.
        self._has_left = False
        self._version: object = None
        #: What was rung for, or was there at the last look.
        self._known: set[str] = set()

    def listen(self) -> ListenEnd:
        """Report news until ``closing`` is set."""
        try:
            with watchers.lock:
                watchers.open.add(self)
                self._open_doorbell()
            return self._watch()
        finally:
            with watchers.lock:
                watchers.open.discard(self)
                if self._doorbell is not None:
                    self._doorbell.close()

    def before_fork(self) -> None:
        self._is_closed = True
        self._driver.close()

    def after_fork_in_parent(self) -> None:
        if self._doorbell is not None:
            with closing(Ringer(self._driver.path)) as ringer:
                ringer.ring(self._listening.name)

    def after_fork_in_child(self) -> None:
        self._has_left = True
        if self._doorbell is not None:
            self._doorbell.leave()

    def at_exit(self) -> None:
        if self._doorbell is not None:
            self._doorbell.remove()

    def _open_doorbell(self) -> None:
        if watchers.process_exits:
            return
        try:
            self._doorbell = Doorbell(self._driver.path, self._listening.name)
            self._interval = _SELDOM
        except OSError as error:
            logger.info(
                "No socket beside %s, so it is looked at every %d ms: %s",
                self._driver.path,
                1000 * _OFTEN,
                error,
            )

    def _watch(self) -> ListenEnd:
        # When the file was deleted or replaced, the worker listens again after a pause,
        # and announces all that runs.
        while not self._driver.has_lost_its_file:
            if not self._look():
                return ListenEnd.AGAIN
            self._wait()
            if self._has_left or self._listening.is_over:
                break
        return ListenEnd.OVER

    def _look(self) -> bool:
        """Report the news that were written.

        :returns: ``False`` if the connection is closed or the socket's name is gone.
        """
        try:
            with watchers.lock:
                is_lost = self._doorbell is not None and not self._doorbell.is_there
                if self._is_closed or is_lost:
                    return False
                version = self._driver.execute("PRAGMA data_version").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            version = None
        if version is None or version != self._version:
            found = set(self._listening.poll())
            known = self._known.union(self._listening.known())
            if self._version is not None and not found <= known:
                self._interval = _OFTEN
            self._version, self._known = version, found
        return True

    def _wait(self) -> None:
        """Report the news that are rung for, until it is time to look."""
        is_over = self._listening.closing
        if self._doorbell is None:
            is_over.wait(_OFTEN)
            return
        until = time.monotonic() + self._interval
        while not is_over.is_set() and (left := until - time.monotonic()) > 0:
            try:
                if not (news := self._doorbell.wait(left)):
                    return
                self._hear([news])
                if more := self._doorbell.more():
                    # Where many ring at once, a full queue has refused some.
                    self._hear(more)
                    return
            except OSError:
                if self._has_left:
                    return
                raise

    def _hear(self, news: list[str]) -> None:
        self._listening.heard(news)
        self._known.update(news)
        self._interval = _SELDOM

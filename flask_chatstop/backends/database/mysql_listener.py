"""How PyMySQL listens: a query waits, and who rings kills that query.

The listener holds a user-level lock that has its name, so the server itself
tells which connection is the listener's: ``IS_USED_LOCK()`` takes the same time beside
one connection and beside thousands. To find the query in the process list takes longer
with every connection, and its connection could be another one by then.
"""

import itertools
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from flask_chatstop.backends.database.base import ListenEnd, Listening
from flask_chatstop.backends.database.mysql_pipeline import can_pipeline, receive, send
from flask_chatstop.backends.database.queries import text_of
from flask_chatstop.backends.database.sleeping_query import (
    Sleeper,
    hear_rings,
    is_nameable,
)
from flask_chatstop.backends.database.sockets import can_read

#: What the lock of a listener is named before its own name.
LOCK_PREFIX = "chatstop "
#: What a query waits with. On MariaDB (10.11) it is not SLEEP(): two kills at once, or
#: one beside many sleepers, hold up all of them for two seconds. SLEEP() waits with a
#: mutex that all share, and takes one of the killed thread while it has that. This one
#: waits for a transaction that no server writes.
_WAITS = {
    True: "MASTER_GTID_WAIT('4294967295-4294967295-1', {seconds:g})",
    False: "SLEEP({seconds:g})",
}
# By KILL QUERY; by max_statement_time of MariaDB and max_execution_time of MySQL.
_INTERRUPTED = (1317, 1969, 3024)
_UNKNOWN_VARIABLE = 1193
# The sleep is no slow query for the log, and no limit on the time of statements is to
# end it. MariaDB and MySQL know one each.
# A stop on MariaDB wakes the listener before it is committed, and is seen by then.
_SETTINGS = (
    "long_query_time=3600",
    "max_statement_time=0",
    "max_execution_time=0",
    "TRANSACTION ISOLATION LEVEL READ UNCOMMITTED",
)
#: Seconds in which a query has begun, unless it cannot be seen that it has. Where it
#: was seen of the last one, a busy server may take longer.
_BEGINNING = 0.1
_NEWS = "chatstop_news"
#: How many names the locks of queries have. With one, a name is at most 64 characters
#: long, which is all that MySQL takes.
_LOCKS = 1000
#: Seconds that a lock may take to get free after its holder was killed.
_RELEASE = 1


def hear_kills(driver: Any, listening: Listening) -> ListenEnd:
    """Report news until ``closing`` is set.

    :param driver: a connection of PyMySQL.
    """
    if not hasattr(driver, "_execute_command") or not is_nameable(listening.name):
        return ListenEnd.UNABLE
    from pymysql.cursors import Cursor

    wait = _WAITS["MariaDB" in driver.get_server_info()]
    with driver.cursor(Cursor) as cursor:
        try:
            _set_up(cursor)
            cursor.execute(f"SELECT {wait.format(seconds=0)}")
            is_direct = _is_direct(driver, cursor)
            if not is_direct or not _has_lock(cursor, listening.name):
                return ListenEnd.UNABLE
            # As text, the server would parse it again while a stop waits.
            news = cursor.mogrify(*listening.news)
            cursor.execute(f"PREPARE {_NEWS} FROM %s", [news])
        except (driver.OperationalError, driver.NotSupportedError):
            if not driver.open:
                raise
            return ListenEnd.UNABLE
        hear_rings(_SleepingQuery(driver, wait, listening), listening)
    return ListenEnd.OVER


class _SleepingQuery(Sleeper):
    def __init__(self, driver: Any, wait: str, listening: Listening) -> None:
        self._driver, self._listening = driver, listening
        self._is_pipelined = can_pipeline(driver)
        self._wait = wait.format(seconds=self.seconds)
        # A lock of each query's own shows that it has begun. A kill from before that is
        # lost, and may keep the query from releasing the lock of the one before.
        self._numbers = itertools.cycle(range(_LOCKS))
        self._maybe_held: list[str] = []
        self._can_see_locks = False
        self._interrupted: type[Exception] = driver.OperationalError

    def fall_asleep(self) -> None:
        lock = f"{LOCK_PREFIX}{self._listening.name} {next(self._numbers)}"
        steps = [f"GET_LOCK('{lock}', 0)"]
        steps += [f"RELEASE_LOCK('{before}')" for before in self._maybe_held]
        # The comment is for operators, who see it in the process list.
        query = (
            f"SELECT {', '.join(steps)}, {self._wait}"
            f" /* chatstop {self._listening.name} */"
        )
        self._maybe_held.append(lock)
        send(self._driver, query)
        if self._is_pipelined:
            send(self._driver, f"EXECUTE {_NEWS}")  # for when it wakes
        holder = f"SELECT IS_USED_LOCK('{lock}')"
        patience = self._listening.timeout if self._can_see_locks else _BEGINNING
        deadline = time.monotonic() + patience
        while self._listening.query(holder) is None:
            if self.is_awake(0.001):
                return
            if time.monotonic() > deadline:
                self._can_see_locks = False  # other connections lead elsewhere, say
                return
        self._can_see_locks = True
        self._has_begun()

    def is_awake(self, seconds: float) -> bool:
        return can_read(self._driver._sock, seconds)

    def wake_up(self) -> Collection[str]:
        with self._interruptible():
            # SLEEP() returns a row when it is killed.
            receive(self._driver)
            self._has_begun()
        if not self._is_pipelined:
            send(self._driver, f"EXECUTE {_NEWS}")
        # Another kill may meet this query. The poll that follows finds it.
        with self._interruptible():
            return [text_of(row[0]) for row in receive(self._driver).rows]
        return []

    def _has_begun(self) -> None:
        """Note that the query has taken its lock, and released those before it."""
        del self._maybe_held[:-1]

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        try:
            yield
        except self._interrupted as error:
            if error.args[0] not in _INTERRUPTED:
                raise


def _set_up(cursor: Any) -> None:
    for setting in _SETTINGS:
        try:
            cursor.execute(f"SET SESSION {setting}")
        except cursor.connection.OperationalError as error:
            if error.args[0] != _UNKNOWN_VARIABLE:
                raise


def _is_direct(driver: Any, cursor: Any) -> bool:
    """Return whether no proxy is in between, which would send a kill to others.

    ProxySQL, say, numbers connections itself, and reads the number in a ``KILL`` so.
    """
    cursor.execute("SELECT CONNECTION_ID() + 0")
    return bool(cursor.fetchone()[0] == driver.thread_id())


def _has_lock(cursor: Any, listener: str) -> bool:
    """Take the lock of a listener, from a predecessor that has gone."""
    name = LOCK_PREFIX + listener
    cursor.execute("SELECT GET_LOCK(%s, 0), IS_USED_LOCK(%s)", (name, name))
    is_taken, holder = cursor.fetchone()
    if is_taken:
        return True
    # A listener that is about to leave does so when it is woken. One that has gone is
    # there for the server as long as its query waits, or for hours behind a network
    # that was cut.
    for kill in ("KILL QUERY", "KILL"):
        if holder is not None:
            with suppress(cursor.connection.Error):  # it may have just gone
                cursor.execute(f"{kill} {holder:d}")
        cursor.execute("SELECT GET_LOCK(%s, %s)", (name, _RELEASE))
        if cursor.fetchone()[0]:
            return True
    return False

"""How PyMySQL listens: a query waits, and who stops a task kills that query.

The listener holds a user-level lock that has the worker's name, so the server itself
tells which connection is the listener's: ``IS_USED_LOCK()`` takes the same time beside
one connection and beside thousands. To find the query in the process list takes longer
with every connection, and its connection could be another one by then.
"""

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

#: What the lock of a listener is named before the id of its worker.
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
_SETTINGS = ("long_query_time=3600", "max_statement_time=0", "max_execution_time=0")
#: Seconds in which a query has begun, unless it cannot be seen that it has.
_BEGINNING = 0.1
#: Seconds that a lock may take to get free after its holder was killed.
_RELEASE = 1


def hear_kills(driver: Any, listening: Listening) -> ListenEnd:
    """Report stops until ``closing`` is set.

    :param driver: a connection of PyMySQL.
    """
    if not hasattr(driver, "_execute_command") or not is_nameable(listening.worker_id):
        return ListenEnd.UNABLE
    from pymysql.cursors import Cursor

    wait = _WAITS["MariaDB" in driver.get_server_info()]
    with driver.cursor(Cursor) as cursor:
        try:
            _set_up(cursor)
            cursor.execute(f"SELECT {wait.format(seconds=0)}")
            is_direct = _is_direct(driver, cursor)
            if not is_direct or not _has_lock(cursor, listening.worker_id):
                return ListenEnd.UNABLE
        except (driver.OperationalError, driver.NotSupportedError):
            if not driver.open:
                raise
            return ListenEnd.UNABLE
        hear_rings(_SleepingQuery(driver, cursor, wait, listening), listening)
    return ListenEnd.OVER


class _SleepingQuery(Sleeper):
    def __init__(
        self, driver: Any, cursor: Any, wait: str, listening: Listening
    ) -> None:
        self._driver, self._listening = driver, listening
        self._stops = cursor.mogrify(*listening.stops)
        self._is_pipelined = can_pipeline(driver)
        self._wait = wait.format(seconds=self.seconds)
        # Two locks that the query takes in turns show that it has begun. A kill from
        # before that is lost.
        self._locks = [f"{LOCK_PREFIX}{listening.worker_id} {n}" for n in range(2)]
        self._interrupted: type[Exception] = driver.OperationalError

    def fall_asleep(self) -> None:
        self._locks.reverse()
        mine, before = self._locks
        # The comment is for operators, who see it in the process list.
        query = (
            f"SELECT GET_LOCK('{mine}', 0), RELEASE_LOCK('{before}'), {self._wait}"
            f" /* chatstop {self._listening.worker_id} */"
        )
        send(self._driver, query)
        if self._is_pipelined:
            send(self._driver, self._stops)  # for when it wakes
        holder = f"SELECT IS_USED_LOCK('{mine}')"
        deadline = time.monotonic() + _BEGINNING
        while self._listening.query(holder) is None and not self.is_awake(0.001):
            if time.monotonic() > deadline:
                return  # other connections lead to another server, say

    def is_awake(self, seconds: float) -> bool:
        return can_read(self._driver._sock, seconds)

    def wake_up(self) -> Collection[str]:
        with self._interruptible():
            # SLEEP() returns a row when it is killed.
            receive(self._driver)
        if not self._is_pipelined:
            send(self._driver, self._stops)
        # The kill of another stop may meet this query. The poll that follows finds it.
        with self._interruptible():
            return [text_of(row[0]) for row in receive(self._driver).rows]
        return []

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


def _has_lock(cursor: Any, worker_id: str) -> bool:
    """Take the lock of a worker, from a listener of its own that has gone."""
    name = LOCK_PREFIX + worker_id
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

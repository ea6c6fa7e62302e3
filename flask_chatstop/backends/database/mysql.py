"""MySQL and MariaDB, with PyMySQL or the driver of the app's engine.

They have no ``UPDATE ... RETURNING``. A stop kills the query that the listener of the
task's worker lets sleep; ``mysql_listener.py`` has that listener.
"""

import inspect
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Engine,
    Select,
    Table,
    bindparam,
    case,
    func,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import IntegrityError

from flask_chatstop.backends.database.base import (
    Dialect,
    ListenEnd,
    Listening,
    check_names,
    is_readable,
    refuses_data,
    sqlstate_of,
)
from flask_chatstop.backends.database.mysql_listener import LOCK_PREFIX, hear_kills
from flask_chatstop.backends.database.mysql_pipeline import can_pipeline, run_together
from flask_chatstop.backends.database.queries import Queries
from flask_chatstop.backends.database.statements import PyMySQLStatement, is_plain
from flask_chatstop.backends.database.table import REPLACED

_DEADLOCK = 1213
_DUPLICATE = 1062
# Kills the listener of the task that the statement before has changed, if any. Behind a
# proxy, the number of the connection is another one, and nothing is killed. Not a
# statement of its own for each step: each would wait for a locked table.
_RING = """IF ROW_COUNT() > 0 AND CONNECTION_ID() = {number:d} THEN
    SET @chatstop_rung = ({rung});
    IF @chatstop_rung IS NOT NULL THEN KILL QUERY @chatstop_rung; END IF;
END IF"""
_NO_SUCH_TABLE = 1146
# By an option of the server, by its transaction, or by its mode.
_READ_ONLY = (1290, 1792, 1836)
# A value that is null, too long, out of range or of another character set; a key, a
# CHECK of MySQL or MariaDB, or a trigger that is against it.
# https://mariadb.com/docs/server/reference/error-codes/mariadb-error-code-reference
_REFUSALS = frozenset(
    [1048, 1062, 1216, 1264, 1265, 1292, 1364, 1366, 1406, 1452, 1644, 3819, 4025]
)


class MySQL(Dialect):
    """What the backend does on MySQL and on MariaDB."""

    driver = module = "pymysql"
    extra = "mysql"

    def queries(self, table: Table, *, lease: float, retention: float) -> Queries:
        return MySQLQueries(table, lease=lease, retention=retention)

    def check_options(self, options: dict[str, Any]) -> None:
        # Unlike psycopg, it may be imported before gevent patches: it looks up what it
        # takes from the socket module when it uses it.
        from pymysql.connections import Connection as Driver

        known = inspect.signature(Driver.__init__).parameters
        check_names(options, known, "PyMySQL")

    def make_engine(self, url: URL, timeout: float, *, is_shared: bool) -> Engine:
        seconds = max(1, int(timeout))
        connect_args = {
            "connect_timeout": timeout,
            "read_timeout": timeout,
            "write_timeout": timeout,
            # Otherwise the server still waits when the client has given up.
            "init_command": f"SET SESSION lock_wait_timeout={seconds},"
            f" innodb_lock_wait_timeout={seconds}",
        }
        return self._create_engine(url, timeout, connect_args=connect_args)

    @contextmanager
    def bounded(self, driver: Any, deadline: float) -> Iterator[None]:
        if not hasattr(driver, "_read_timeout"):  # not PyMySQL
            yield
            return
        before = driver._read_timeout, driver._write_timeout
        left = max(0.001, deadline - time.monotonic())
        driver._read_timeout = driver._write_timeout = left
        try:
            yield
        finally:
            driver._read_timeout, driver._write_timeout = before

    def can_listen(self, engine: Engine) -> bool:
        return engine.driver == "pymysql"

    def listen(self, driver: Any, listening: Listening) -> ListenEnd:
        with self.bounded(driver, time.monotonic() + listening.timeout):
            return hear_kills(driver, listening)

    def may_retry(self, error: Any) -> bool:
        # The number is PyMySQL's and mysqlclient's, the state is other drivers'.
        return _number_of(error) == _DEADLOCK or sqlstate_of(error) == "40001"

    def is_missing_table(self, error: Any) -> bool:
        return _number_of(error) == _NO_SUCH_TABLE

    def is_outdated(self, error: Any) -> bool:
        return _number_of(error) in _READ_ONLY

    def is_refusal(self, error: Any) -> bool:
        return _number_of(error) in _REFUSALS or refuses_data(error)

    def is_stale(self, driver: Any) -> bool:
        return is_readable(getattr(driver, "_sock", driver))  # PyMySQL's socket


def _number_of(error: Any) -> object:
    """Return the server's number of an error, which drivers tell in two ways."""
    number = getattr(error, "errno", None)
    return number if number is not None else next(iter(error.args), None)


def _holder(lock: Any) -> Select[Any]:
    """Select the connection that holds a lock, and the one that asks."""
    return select(func.is_used_lock(lock), func.connection_id())


class MySQLQueries(Queries):
    """Query a database without ``UPDATE ... RETURNING``."""

    def __init__(self, table: Table, *, lease: float, retention: float) -> None:
        super().__init__(table, lease=lease, retention=retention)
        self._insertion = self._insert().values(self._fresh)
        self._replacement = (
            update(table).where(self._is_task, self._is_expired).values(self._fresh)
        )
        is_running = table.c.state == "running"
        stop = update(table).where(self._is_owned, is_running)
        self._stop = PyMySQLStatement(stop.values(state="stopping"))
        self._state = PyMySQLStatement(select(table.c.state).where(self._is_owned))
        lock = func.concat(literal(LOCK_PREFIX), table.c.worker_id)
        self._listener_of_task = PyMySQLStatement(_holder(lock).where(self._is_task))
        self._listener = PyMySQLStatement(_holder(bindparam("b_lock")))
        self._rung = PyMySQLStatement(
            select(func.is_used_lock(lock)).where(self._is_task)
        )

    def _state_after_stop(
        self, connection: Connection, params: dict[str, Any]
    ) -> str | None:
        # MariaDB's UPDATE returns no columns. The count of rows tells that the task was
        # running: of many stops at once, one rings. A task that begins between the two
        # statements was missing when the stop came.
        if self._set_stopping(connection, params):
            return "stopping"
        found = self._state.execute(connection, params).fetchone()
        return None if found is None or found[0] == "running" else found[0]

    def _set_stopping(self, connection: Connection, params: dict[str, Any]) -> bool:
        """Set a running task to stopping and ring; return whether it was running."""
        driver: Any = connection.connection.driver_connection
        if is_plain(connection, "pymysql") and can_pipeline(driver):
            return self._set_stopping_at_once(connection, params)
        if not self._stop.execute(connection, params).rowcount:
            return False
        self._kill(connection, self._listener_of_task, params)
        return True

    def _set_stopping_at_once(
        self, connection: Connection, params: dict[str, Any]
    ) -> bool:
        driver: Any = connection.connection.driver_connection
        rung = self._rung.text(driver, params)
        ring = _RING.format(number=driver.thread_id(), rung=rung)
        with self._stop.kept(connection):
            stop = self._stop.text(driver, params)
            return bool(run_together(driver, [stop, ring]).affected_rows)

    def ring(self, connection: Connection, worker_id: str) -> None:
        lock = {"b_lock": LOCK_PREFIX + worker_id}
        self._kill(connection, self._listener, lock)

    def _kill(
        self, connection: Connection, holder: PyMySQLStatement, params: dict[str, Any]
    ) -> None:
        """Kill the waiting query of a listener, if it is on this server."""
        driver: Any = connection.connection.driver_connection
        if not hasattr(driver, "thread_id"):  # it does not tell whether a proxy is used
            return
        found = holder.execute_and_forget(connection, params)
        # The stop is committed. Where it does not ring, the listener's poll finds it.
        if found and found[0] is not None and found[1] == driver.thread_id():
            query = PyMySQLStatement(text(f"KILL QUERY {found[0]:d}"))
            query.execute_and_forget(connection, {})

    def _insert_or_replace(self, connection: Connection, row: dict[str, Any]) -> bool:
        # Not ON DUPLICATE KEY UPDATE: its count of rows is 1 both for an inserted row
        # and for one that it left as it was.
        try:
            connection.execute(self._insertion, row)
        except IntegrityError as error:
            if _number_of(error.orig) != _DUPLICATE:
                raise
            params = row | {"b_task_id": row["task_id"]}
            return bool(connection.execute(self._replacement, params).rowcount)
        return True

    def _insert(self) -> Any:
        return mysql.insert(self._table)

    def _upsert(self, insertion: Any) -> Any:
        new, old = insertion.inserted, self._columns
        return insertion.on_duplicate_key_update(
            [
                (name, case((self._is_expired, new[name]), else_=old[name]))
                for name in REPLACED
            ]
        )

    def _is_any(self) -> ColumnElement[bool]:
        return self._columns.task_id.in_(bindparam("b_task_ids", expanding=True))

    def _text(self, value: str) -> Any:
        return value.encode()

"""The queries on MySQL and MariaDB, which have no ``UPDATE ... RETURNING``.

A stop kills the query that the listener of the task's worker lets sleep.
"""

from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    bindparam,
    case,
    func,
    literal,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import IntegrityError

from flask_chatstop.backends.database.driver_errors import number_of
from flask_chatstop.backends.database.mysql_kill import holder, kill, ring
from flask_chatstop.backends.database.mysql_listener import LOCK_PREFIX
from flask_chatstop.backends.database.mysql_pipeline import (
    SEE_UNCOMMITTED,
    can_pipeline,
    checked,
    run_together,
)
from flask_chatstop.backends.database.queries import Queries, text_of
from flask_chatstop.backends.database.statements import PyMySQLStatement, is_plain
from flask_chatstop.backends.database.table import REPLACED

_DUPLICATE = 1062
# Kills the listener of the task that the statement before has changed, if any. Behind a
# proxy, the number of the connection is another one, and nothing is killed. It does not
# read the table, which may be locked, but what the statement before has noted.
_NOTED = "@chatstop_worker"
_KILL = f"""KILL QUERY IF(ROW_COUNT() > 0 AND CONNECTION_ID() = {{number:d}},
    IS_USED_LOCK(CONCAT('{LOCK_PREFIX}', {_NOTED})), NULL)"""


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
        noted = literal_column(_NOTED).op(":=")(table.c.worker_id)
        self._stop_and_note = PyMySQLStatement(
            stop.values(state="stopping", worker_id=noted)
        )
        self._state = PyMySQLStatement(select(table.c.state).where(self._is_owned))
        self._stops = PyMySQLStatement(self._stopping)
        lock = func.concat(literal(LOCK_PREFIX), table.c.worker_id)
        self._listener_of_task = PyMySQLStatement(holder(lock).where(self._is_task))

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
        found = self._listener_of_task.execute_and_forget(connection, params)
        kill(connection, [found] if found else [])
        return True

    def _set_stopping_at_once(
        self, connection: Connection, params: dict[str, Any]
    ) -> bool:
        driver: Any = connection.connection.driver_connection
        with self._stop_and_note.kept(connection):
            stop = self._stop_and_note.text(driver, params)
            kill = _KILL.format(number=driver.thread_id())
            # The listener is woken while the server writes the commit to its disk.
            statements = ["START TRANSACTION", stop, kill, "COMMIT"]
            _, stopped, _, committed = run_together(driver, statements)
            was_running = bool(checked(stopped).affected_rows)
            checked(committed)
            return was_running

    def stops(self, connection: Connection, worker_id: str) -> set[str]:
        driver: Any = connection.connection.driver_connection
        if not (is_plain(connection, "pymysql") and can_pipeline(driver)):
            return super().stops(connection, worker_id)
        # A stop that has killed in vain, since the listener was awake, is found by this
        # poll alone, and may not be committed yet.
        with self._stops.kept(connection):
            stops = self._stops.text(driver, {"b_worker_id": self._text(worker_id)})
            _, found = run_together(driver, [SEE_UNCOMMITTED, stops])
            return {text_of(row[0]) for row in checked(found).rows}

    def ring(self, connection: Connection, worker_id: str) -> None:
        ring(connection, worker_id)

    def _insert_or_replace(self, connection: Connection, row: dict[str, Any]) -> bool:
        # Not ON DUPLICATE KEY UPDATE: its count of rows is 1 both for an inserted row
        # and for one that it left as it was.
        try:
            connection.execute(self._insertion, row)
        except IntegrityError as error:
            if number_of(error.orig) != _DUPLICATE:
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

"""The queries on SQLite.

A stop rings the worker of its task by a socket beside the file.
"""

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    bindparam,
    case,
    func,
    select,
    update,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite import pysqlite

from flask_chatstop.backends.database.conflict_queries import ConflictQueries


class SQLiteQueries(ConflictQueries):
    """Query SQLite, with ``RETURNING`` and ``ON CONFLICT``."""

    def __init__(self, table: Table, *, lease: float, retention: float) -> None:
        super().__init__(table, lease=lease, retention=retention)
        state = table.c.state
        self._stop = (
            update(table)
            .where(self._is_owned)
            .values(state=case((state == "running", "stopping"), else_=state))
            .returning(state, table.c.worker_id)
        )
        compiled = self._stop.compile(dialect=pysqlite.dialect(paramstyle="named"))
        self._stop_sql, self._stop_params = str(compiled), compiled.params

    def _state_after_stop(
        self, connection: Connection, params: dict[str, Any]
    ) -> str | None:
        # This skips SQLAlchemy's execution, which takes longer than SQLite's.
        driver: Any = connection.connection.driver_connection
        found = driver.execute(self._stop_sql, self._stop_params | params).fetchone()
        if found is None:
            return None
        state: str
        state, worker_id = found
        if state == "stopping":
            # It is committed: each statement is a transaction of its own.
            driver.ringer.ring(worker_id, params["b_task_id"])
        return state

    def ring(self, connection: Connection, worker_id: str) -> None:
        driver: Any = connection.connection.driver_connection
        driver.ringer.ring(worker_id)

    def _insert(self) -> Any:
        return sqlite.insert(self._table)

    # SQLite takes at most 32,766 parameters, but one parameter may have any length.
    def _is_any(self) -> ColumnElement[bool]:
        ids = func.json_each(bindparam("b_task_ids")).table_valued("value")
        return self._columns.task_id.in_(select(ids.c.value))

    def _list(self, task_ids: Iterable[str]) -> Any:
        return json.dumps(list(task_ids))

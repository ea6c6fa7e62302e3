"""The queries on PostgreSQL.

A stop cancels the block that the listener of the task's worker lets sleep.
"""

import itertools
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Table,
    Text,
    any_,
    bindparam,
    case,
    select,
    true,
    update,
)
from sqlalchemy.dialects import postgresql

from flask_chatstop.backends.database.conflict_queries import ConflictQueries
from flask_chatstop.backends.database.postgresql_cancellation import (
    note_ring,
    noted_cancellation,
)
from flask_chatstop.backends.database.postgresql_pipeline import Pipeline
from flask_chatstop.backends.database.postgresql_rows import ListenerRows, no_wait
from flask_chatstop.backends.database.statements import PsycopgStatement
from flask_chatstop.backends.database.table import now

# Tells one stop from the next of the same session.
_tokens = itertools.count(1)


class PostgreSQLQueries(ConflictQueries):
    """Query PostgreSQL, and wake the worker of a stopped task."""

    def __init__(self, table: Table, *, lease: float, retention: float) -> None:
        super().__init__(table, lease=lease, retention=retention)
        c = table.c
        self._listeners = ListenerRows(
            table,
            id="task_id",
            name="worker_id",
            number="owner_user",
            others={"owner_app": "", "owner_source": "", "created_at": now()},
        )
        # The row is locked when it is read. Of many stops at once, one sees the task
        # running and rings. RETURNING would be too late: it returns the state after the
        # stop.
        owned = select(c.task_id, c.worker_id, c.state).where(self._is_owned)
        found = owned.with_for_update().cte("found")
        is_running = found.c.state == "running"
        stopped = (
            update(table)
            .where(c.task_id == found.c.task_id, is_running)
            .values(state="stopping")
            .cte("stopped")
        )
        state = case((is_running, "stopping"), else_=found.c.state)
        rung = self._listeners.taking(found.c.worker_id, is_running).cte("rung")
        # Waiting for the server's disk would take a quarter of a stop's time. It would
        # save the stop only if the server crashed before the worker has read it.
        stop = select(state, rung.c.owner_user, found.c.worker_id, no_wait())
        stop = stop.select_from(found.outerjoin(rung, true())).add_cte(stopped)
        self._stop = PsycopgStatement(stop)
        note = note_ring(rung.c.owner_user, found.c.worker_id)
        noting = stop.add_columns(note)
        self._pipeline = Pipeline("stop", noting, noted_cancellation())

    def register(self, connection: Connection, worker_id: str, number: int) -> None:
        self._listeners.register(connection, worker_id, number)

    def ring(self, connection: Connection, worker_id: str) -> None:
        self._listeners.ring(connection, worker_id)

    def _state_after_stop(
        self, connection: Connection, params: dict[str, Any]
    ) -> str | None:
        if self._pipeline.can_run(connection):
            token = str(next(_tokens))
            result = self._pipeline.execute(connection, {**params, "b_token": token})
            return result.get_value(0, 0).decode() if result.ntuples else None
        found = self._stop.execute(connection, params).fetchone()
        if found is None:
            return None
        state, number, worker_id = found[:3]
        if number is not None:
            # In a statement of its own: the stop is to be seen by who is woken.
            self._listeners.cancel(connection, worker_id, number)
        return str(state)

    def _insert(self) -> Any:
        return postgresql.insert(self._table)

    def _is_any(self) -> ColumnElement[bool]:
        ids = bindparam("b_task_ids", type_=ARRAY(Text))
        return self._columns.task_id == any_(ids)

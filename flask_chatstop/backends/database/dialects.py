"""The queries in the dialects of SQLite and PostgreSQL."""

import json
from collections.abc import Iterable
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
    func,
    literal,
    select,
    true,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.engine.interfaces import Dialect

from flask_chatstop.backends.database.queries import REPLACED, Queries

CHANNEL_PREFIX = "chatstop_"


class _ReturningQueries(Queries):
    """Ask a database with ``RETURNING`` and ``ON CONFLICT``."""

    def __init__(self, table: Table, *, lease: float, retention: float) -> None:
        super().__init__(table, lease=lease, retention=retention)
        self._taking = self._upsert(self._insertion).returning(self._columns.task_id)
        state = self._columns.state
        self._stop = (
            update(table)
            .where(self._is_owned)
            .values(state=case((state == "running", "stopping"), else_=state))
        )

    def _found_stop(self, connection: Connection, params: dict[str, Any]) -> str | None:
        stop = self._stop.returning(self._columns.state)
        found: str | None = connection.scalar(stop, params)
        return found

    def _insert_or_replace(self, connection: Connection, row: dict[str, Any]) -> bool:
        return connection.execute(self._taking, row).first() is not None

    def _insert(self) -> Any:
        return sqlite.insert(self._table)

    def _upsert(self, insertion: Any) -> Any:
        return insertion.on_conflict_do_update(
            index_elements=[self._columns.task_id],
            set_={name: insertion.excluded[name] for name in REPLACED},
            where=self._is_expired,
        )

    def _text(self, value: str) -> Any:
        return value


class SQLiteQueries(_ReturningQueries):
    """Ask SQLite."""

    # It takes 32,766 parameters at most, but one of any length.
    def _is_any(self) -> ColumnElement[bool]:
        ids = func.json_each(bindparam("b_task_ids")).table_valued("value")
        return self._columns.task_id.in_(select(ids.c.value))

    def _list(self, task_ids: Iterable[str]) -> Any:
        return json.dumps(list(task_ids))


class PostgreSQLQueries(_ReturningQueries):
    """Ask PostgreSQL, and let a stop ring its worker."""

    def __init__(self, table: Table, *, lease: float, retention: float) -> None:
        super().__init__(table, lease=lease, retention=retention)
        c = self._columns
        # Locked as it is read, so that of many stops at once one sees it running, and
        # rings. What RETURNING gives is too late: the state as it is after the stop.
        owned = select(c.task_id, c.worker_id, c.state).where(self._is_owned)
        found = owned.with_for_update().cte("found")
        is_running = found.c.state == "running"
        stopped = (
            update(table)
            .where(c.task_id == found.c.task_id, is_running)
            .values(state="stopping")
            .cte("stopped")
        )
        channel = literal(CHANNEL_PREFIX).concat(found.c.worker_id)
        ring = func.pg_notify(channel, found.c.task_id)
        state = case((is_running, "stopping"), else_=found.c.state)
        # The worker is rung at the commit. Waiting for the server's disk as well would
        # be a quarter of a stop's time, and save the stop only if the server crashed
        # before the ring was out.
        no_wait = func.set_config("synchronous_commit", "off", true())
        self._stop_and_ring = select(state, case((is_running, ring)), no_wait).add_cte(
            stopped
        )
        dialect: Dialect = psycopg.dialect()  # type: ignore[no-untyped-call]
        compiled = self._stop_and_ring.compile(dialect=dialect)
        self._stop_sql, self._stop_params = str(compiled), compiled.params

    def _found_stop(self, connection: Connection, params: dict[str, Any]) -> str | None:
        found: str | None
        is_translated = "schema_translate_map" in connection.get_execution_options()
        if connection.dialect.driver != "psycopg" or is_translated:
            found = connection.scalar(self._stop_and_ring, params)
            return found
        # Past SQLAlchemy's execution, which takes as long as PostgreSQL's.
        driver: Any = connection.connection.driver_connection
        try:
            row = driver.execute(self._stop_sql, self._stop_params | params).fetchone()
        except BaseException:
            # Cut, or interrupted while it waits: nothing that the pool should keep.
            if driver.info.transaction_status.name != "IDLE":
                connection.invalidate()
            raise
        found = row[0] if row else None
        return found

    def _insert(self) -> Any:
        return postgresql.insert(self._table)

    def _is_any(self) -> ColumnElement[bool]:
        ids = bindparam("b_task_ids", type_=ARRAY(Text))
        return self._columns.task_id == any_(ids)

    def _list(self, task_ids: Iterable[str]) -> Any:
        return list(task_ids)


def queries_for(
    dialect: str, table: Table, *, lease: float, retention: float
) -> Queries:
    """Give the queries for a database by the name of its dialect."""
    kind = {"sqlite": SQLiteQueries, "postgresql": PostgreSQLQueries}
    return kind.get(dialect, Queries)(table, lease=lease, retention=retention)

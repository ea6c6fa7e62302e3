"""PostgreSQL, with psycopg 3 or the driver of the app's engine.

A stop notifies the worker of its task with ``NOTIFY``; a listener uses ``LISTEN``.
``postgresql_connection.py`` has what psycopg needs to connect, to wait and to listen.
"""

from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import (
    ARRAY,
    URL,
    ColumnElement,
    Connection,
    Engine,
    Table,
    Text,
    any_,
    bindparam,
    case,
    event,
    func,
    literal,
    select,
    true,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.engine import interfaces

from flask_chatstop.backends.database.base import (
    Dialect,
    Listening,
    refuses_data,
    sqlstate_of,
)
from flask_chatstop.backends.database.postgresql_connection import (
    PostgreSQLConnect,
    bounded,
    hear_notifications,
)
from flask_chatstop.backends.database.queries import Queries
from flask_chatstop.backends.database.table import REPLACED

_CHANNEL_PREFIX = "chatstop_"
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_SERIALIZATION_FAILURE, _DEADLOCK_DETECTED = "40001", "40P01"
# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
_NUMBERS = {
    "connect_timeout",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "tcp_user_timeout",
}
_UNDEFINED_TABLE = "42P01"
# A server that has become a standby; "cached plan must not change result type", after a
# migration; a prepared statement that the server does not know.
_OUTDATED = ("25006", "0A000", "26000")


class PostgreSQL(Dialect):
    """What the backend does on PostgreSQL."""

    driver = module = "psycopg"
    extra = "postgresql"

    def queries(self, table: Table, *, lease: float, retention: float) -> Queries:
        return PostgreSQLQueries(table, lease=lease, retention=retention)

    def check_options(self, options: dict[str, Any]) -> None:
        for name in _NUMBERS.intersection(options):
            int(options[name])

    def make_engine(self, url: URL, timeout: float, *, is_shared: bool) -> Engine:
        engine = self._create_engine(url, timeout)
        event.listen(engine, "do_connect", PostgreSQLConnect(timeout).connect)
        return engine

    def bounded(self, driver: Any, deadline: float) -> AbstractContextManager[None]:
        if not hasattr(driver, "pgconn"):  # not psycopg 3
            return super().bounded(driver, deadline)
        return bounded(driver, deadline)

    def can_listen(self, engine: Engine) -> bool:
        return engine.driver == "psycopg"

    def listen(self, driver: Any, listening: Listening) -> bool:
        hear_notifications(driver, _CHANNEL_PREFIX + listening.worker_id, listening)
        return True

    def may_retry(self, error: Any) -> bool:
        # A conflict occurs where the default isolation is stricter than usual.
        return sqlstate_of(error) in (_SERIALIZATION_FAILURE, _DEADLOCK_DETECTED)

    def is_missing_table(self, error: Any) -> bool:
        return sqlstate_of(error) == _UNDEFINED_TABLE

    def is_outdated(self, error: Any) -> bool:
        return sqlstate_of(error) in _OUTDATED

    def is_refusal(self, error: Any) -> bool:
        return refuses_data(error)

    def text_of(self, error: object) -> str:
        # Without the detail and the context, which quote the row and its user.
        primary = getattr(getattr(error, "diag", None), "message_primary", None)
        return super().text_of(primary or error)


class PostgreSQLQueries(Queries):
    """Query PostgreSQL, and notify the worker of a stopped task."""

    def __init__(self, table: Table, *, lease: float, retention: float) -> None:
        super().__init__(table, lease=lease, retention=retention)
        c = table.c
        insertion = self._insert().values(self._fresh)
        self._taking = self._upsert(insertion).returning(c.task_id)
        # The row is locked when it is read. Of many stops at once, one sees the task
        # running and notifies. RETURNING would be too late: it returns the state after
        # the stop.
        owned = select(c.task_id, c.worker_id, c.state).where(self._is_owned)
        found = owned.with_for_update().cte("found")
        is_running = found.c.state == "running"
        stopped = (
            update(table)
            .where(c.task_id == found.c.task_id, is_running)
            .values(state="stopping")
            .cte("stopped")
        )
        channel = literal(_CHANNEL_PREFIX).concat(found.c.worker_id)
        notify = func.pg_notify(channel, found.c.task_id)
        state = case((is_running, "stopping"), else_=found.c.state)
        # The notification is sent at the commit. Waiting for the server's disk as well
        # would take a quarter of a stop's time. It would save the stop only if the
        # server crashed before the notification was sent.
        no_wait = func.set_config("synchronous_commit", "off", true())
        stop = select(state, case((is_running, notify)), no_wait).add_cte(stopped)
        self._stop = stop
        dialect: interfaces.Dialect = psycopg.dialect()  # type: ignore[no-untyped-call]
        compiled = stop.compile(dialect=dialect)
        self._stop_sql, self._stop_params = str(compiled), compiled.params

    def _state_after_stop(
        self, connection: Connection, params: dict[str, Any]
    ) -> str | None:
        found: str | None
        is_translated = "schema_translate_map" in connection.get_execution_options()
        if connection.dialect.driver != "psycopg" or is_translated:
            found = connection.scalar(self._stop, params)
            return found
        # This skips SQLAlchemy's execution, which takes as long as PostgreSQL's.
        driver: Any = connection.connection.driver_connection
        try:
            row = driver.execute(self._stop_sql, self._stop_params | params).fetchone()
        except BaseException:
            # The connection was cut, or interrupted while it waited. The pool must not
            # keep it.
            if driver.info.transaction_status.name != "IDLE":
                connection.invalidate()
            raise
        found = row[0] if row else None
        return found

    def _insert_or_replace(self, connection: Connection, row: dict[str, Any]) -> bool:
        return connection.execute(self._taking, row).first() is not None

    def _insert(self) -> Any:
        return postgresql.insert(self._table)

    def _upsert(self, insertion: Any) -> Any:
        return insertion.on_conflict_do_update(
            index_elements=[self._columns.task_id],
            set_={name: insertion.excluded[name] for name in REPLACED},
            where=self._is_expired,
        )

    def _is_any(self) -> ColumnElement[bool]:
        ids = bindparam("b_task_ids", type_=ARRAY(Text))
        return self._columns.task_id == any_(ids)

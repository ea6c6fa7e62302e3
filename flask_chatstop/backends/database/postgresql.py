"""PostgreSQL, with psycopg 3 or the driver of the app's engine.

A stop cancels the block that the listener of the task's worker lets sleep;
``postgresql_listener.py`` has that listener. ``postgresql_connection.py`` has what
psycopg needs to connect and to wait.
"""

from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import (
    ARRAY,
    URL,
    ColumnElement,
    Connection,
    Engine,
    Integer,
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

from flask_chatstop.backends.database.base import (
    Dialect,
    ListenEnd,
    Listening,
    check_names,
    refuses_data,
    sqlstate_of,
)
from flask_chatstop.backends.database.postgresql_cancellation import (
    cancellation,
    note_ring,
    noted_cancellation,
)
from flask_chatstop.backends.database.postgresql_connection import (
    PostgreSQLConnect,
    bounded,
)
from flask_chatstop.backends.database.postgresql_keywords import KEYWORDS
from flask_chatstop.backends.database.postgresql_listener import (
    NAME_PREFIX,
    hear_cancellations,
)
from flask_chatstop.backends.database.postgresql_pipeline import PipelinedStop
from flask_chatstop.backends.database.queries import Queries
from flask_chatstop.backends.database.statements import PsycopgStatement
from flask_chatstop.backends.database.table import REPLACED, now

# The row of a listener. No task has such an id, since an id has no slash.
_LISTENER_PREFIX = "/listener/"
#: Seconds that the row of a listener which is gone stays. It is stored three times as
#: often.
_LISTENER_LEASE = 60.0
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
        check_names(options, KEYWORDS, "PostgreSQL")
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

    def listen(self, driver: Any, listening: Listening) -> ListenEnd:
        return hear_cancellations(driver, listening)

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


def _no_wait() -> Any:
    """Let a statement commit without waiting for the server's disk."""
    return func.set_config("synchronous_commit", "off", true())


class PostgreSQLQueries(Queries):
    """Query PostgreSQL, and wake the worker of a stopped task."""

    def __init__(self, table: Table, *, lease: float, retention: float) -> None:
        super().__init__(table, lease=lease, retention=retention)
        c = table.c
        self._listener: Any = table.alias("listener")
        insertion = self._insert().values(self._fresh)
        self._taking = self._upsert(insertion).returning(c.task_id)
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
        is_listeners = self._listener.c.task_id == literal(_LISTENER_PREFIX).concat(
            found.c.worker_id
        )
        rung = self._take_ring().where(is_listeners, is_running).cte("rung")
        # Waiting for the server's disk would take a quarter of a stop's time. It would
        # save the stop only if the server crashed before the worker has read it.
        stop = select(state, rung.c.owner_user, found.c.worker_id, _no_wait())
        stop = stop.select_from(found.outerjoin(rung, true())).add_cte(stopped)
        self._stop = PsycopgStatement(stop)
        own = self._listener.c.task_id == bindparam("b_task_id")
        self._ringing = PsycopgStatement(self._take_ring().where(own))
        number = bindparam("b_number", type_=Integer)
        name = bindparam("b_name", type_=Text)
        self._cancelling = PsycopgStatement(cancellation(number, name))
        note = note_ring(rung.c.owner_user, found.c.worker_id)
        self._pipeline = PipelinedStop(stop.add_columns(note), noted_cancellation())
        self._registration = self._register()

    def register(self, connection: Connection, worker_id: str, number: int) -> None:
        row = {
            "task_id": _LISTENER_PREFIX + worker_id,
            "owner_app": "",
            "owner_source": "",
            "owner_user": str(number),
            "worker_id": worker_id,
            "state": "asleep",
        }
        connection.execute(self._registration, row)

    def ring(self, connection: Connection, worker_id: str) -> None:
        params = {"b_task_id": _LISTENER_PREFIX + worker_id}
        if found := self._ringing.execute_and_forget(connection, params):
            self._cancel(connection, worker_id, found[0])

    def _state_after_stop(
        self, connection: Connection, params: dict[str, Any]
    ) -> str | None:
        if self._pipeline.can_run(connection):
            row = self._pipeline.execute(connection, params)
            return None if row is None else row[0]
        found = self._stop.execute(connection, params).fetchone()
        if found is None:
            return None
        state, number, worker_id = found[:3]
        if number is not None:
            # In a statement of its own: the stop is to be seen by who is woken.
            self._cancel(connection, worker_id, number)
        return str(state)

    def _cancel(self, connection: Connection, worker_id: str, number: str) -> None:
        params = {"b_number": int(number), "b_name": NAME_PREFIX + worker_id}
        self._cancelling.execute_and_forget(connection, params)

    def _take_ring(self) -> Any:
        """Update the row of a listener, so that one stop rings and the next do not.

        The listener is cancelled once for each sleep. A second cancellation could meet
        what it does when it is awake, which is an error in the server's log. A stop
        that finds the ring taken is found by the poll after the listener's next
        registration.
        """
        return (
            update(self._listener)
            .where(self._listener.c.state == "asleep")
            .values(state="rung")
            .returning(self._listener.c.owner_user)
        )

    def _register(self) -> Any:
        insertion = self._insert().values(
            created_at=now(), expires_at=now() + _LISTENER_LEASE
        )
        changed = ("owner_user", "state", "expires_at")
        return insertion.on_conflict_do_update(
            index_elements=[self._columns.task_id],
            set_={name: insertion.excluded[name] for name in changed},
        ).returning(_no_wait())

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

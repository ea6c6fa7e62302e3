"""The queries of the database backend, as far as all databases share them.

Each statement is a transaction of its own. No lock is held between two statements, and
no BEGIN and no COMMIT is sent.
"""

import abc
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Table,
    and_,
    bindparam,
    case,
    delete,
    select,
    update,
)

from flask_chatstop.backends.base import (
    EndReason,
    Owner,
    StopOutcome,
    TaskInfo,
    TaskRecord,
)
from flask_chatstop.backends.database.statements import for_driver
from flask_chatstop.backends.database.table import now

_BATCH = 500
# No task has this id. The row says that a worker has purged recently.
_PURGE = TaskRecord("", Owner("", "", ""), "")


class Queries(abc.ABC):
    """The queries on one table; each dialect completes them."""

    def __init__(self, table: Table, *, lease: float, retention: float) -> None:
        self._table, self._columns = table, table.c
        self._lease = lease
        c = table.c
        self._fresh = {"created_at": now(), "expires_at": now() + lease}
        self._is_task = c.task_id == bindparam("b_task_id")
        self._is_expired = c.expires_at <= now()
        self._is_over = c.state.not_in(["running", "stopping"])
        self._is_owned = and_(
            self._is_task,
            c.owner_app == bindparam("b_app"),
            c.owner_source == bindparam("b_source"),
            c.owner_user == bindparam("b_user"),
            ~self._is_expired,
        )
        self._ended = select(c.task_id).where(self._is_owned, self._is_over)
        self._reinsertion = self._upsert(self._insert())
        is_workers = c.worker_id == bindparam("b_worker_id")
        is_kept = and_(self._is_any(), is_workers, ~self._is_over)
        self._renewal = update(table).where(is_kept).values(expires_at=now() + lease)
        self._kept = select(c.task_id).where(is_kept)
        self._ending = (
            update(table)
            .where(self._is_task, is_workers, ~self._is_over, ~self._is_expired)
            .values(state=bindparam("b_reason"), expires_at=now() + retention)
        )
        self._stopping = select(c.task_id).where(
            is_workers, c.state == "stopping", ~self._is_expired
        )
        self._expired = (
            select(c.task_id)
            # A task that was stopping when its lease ran out is still stopping when
            # its worker renews it.
            .where(
                case(
                    (c.state == "stopping", c.expires_at + retention),
                    else_=c.expires_at,
                )
                <= now()
            )
            .where(self._is_expired, c.state != "purge")
            .order_by(c.expires_at)
            .limit(_BATCH)
        )
        self._purge = delete(table).where(self._is_any(), self._is_expired)
        nothing = and_(c.task_id == self._text(""), c.state == "none")
        self._touching = update(table).where(nothing).values(state=c.state)

    def announce(self, connection: Connection, record: TaskRecord) -> bool:
        """Insert a task, and replace an expired one that has its id."""
        return self._insert_or_replace(connection, self._row(record))

    def renew(self, connection: Connection, records: Sequence[TaskRecord]) -> set[str]:
        """Renew tasks of one worker, insert lost ones, and return the taken ids."""
        if not records:
            return set()
        lost = {record.task_id: record for record in records}
        params = {
            "b_worker_id": self._text(records[0].worker_id),
            "b_task_ids": self._list(lost),
        }
        if connection.execute(self._renewal, params).rowcount == len(lost):
            return set()
        for task_id in connection.scalars(self._kept, params):
            lost.pop(text_of(task_id), None)
        self._insert_lost(connection, list(lost.values()))
        params["b_task_ids"] = self._list(lost)
        kept = {text_of(task_id) for task_id in connection.scalars(self._kept, params)}
        return lost.keys() - kept

    def stop(self, connection: Connection, task_id: str, owner: Owner) -> StopOutcome:
        """Set a running task to stopping, and return what the stop found."""
        state = self._state_after_stop(connection, self._owned(task_id, owner))
        if state is None:
            return StopOutcome.MISSING
        if state == "stopping":
            return StopOutcome.STOPPING
        stopped = state == EndReason.STOPPED
        return StopOutcome.STOPPED if stopped else StopOutcome.ENDED

    def ring(self, connection: Connection, worker_id: str) -> None:  # noqa: B027
        """Ring a worker as a stop of one of its tasks does.

        This one does nothing. A ring never fails: it may be lost, and the stop is not.
        """

    def register(  # noqa: B027
        self, connection: Connection, worker_id: str, number: int
    ) -> None:
        """Store how the server knows the connection of a worker's listener.

        This one does nothing.
        """

    def end(
        self, connection: Connection, record: TaskRecord, reason: EndReason
    ) -> bool:
        """Record how a task has ended, and return whether this was its first end."""
        params = {
            "b_task_id": self._text(record.task_id),
            "b_worker_id": self._text(record.worker_id),
            "b_reason": reason.value,
        }
        return bool(connection.execute(self._ending, params).rowcount)

    def stops(self, connection: Connection, worker_id: str) -> set[str]:
        """Return the ids of a worker's tasks that are stopping."""
        params = {"b_worker_id": self._text(worker_id)}
        return {text_of(found) for found in connection.scalars(self._stopping, params)}

    def stops_statement(
        self, engine: Engine, worker_id: str
    ) -> tuple[str, dict[str, Any]]:
        """Return what :meth:`stops` executes, for a connection of the driver's."""
        sql, params = for_driver(self._stopping, engine)
        return sql, params | {"b_worker_id": self._text(worker_id)}

    def tasks(
        self, connection: Connection, wanted: Mapping[str, str | None]
    ) -> list[TaskInfo]:
        """Return the running and stopping tasks with these values, the oldest first."""
        c = self._columns
        times = (now() - c.created_at).label("age"), c.expires_at - now()
        query = (
            select(c.task_id, c.owner_app, c.owner_source, c.owner_user)
            .add_columns(c.worker_id, c.state, *times)
            .where(c.state.in_(["running", "stopping"]), ~self._is_expired)
            .where(*(c[k] == self._text(v) for k, v in wanted.items() if v is not None))
            .order_by(c.created_at)
        )
        found = []
        for *texts, state, age, left in connection.execute(query):
            task_id, app, source, user, worker_id = map(text_of, texts)
            record = TaskRecord(task_id, Owner(app, source, user), worker_id)
            is_stopping = state == "stopping"
            found.append(TaskInfo(record, is_stopping, float(age), float(left)))
        return found

    def has_ended(self, connection: Connection, task_id: str, owner: Owner) -> bool:
        """Return whether an owner's task has ended within the retention."""
        params = self._owned(task_id, owner)
        return connection.execute(self._ended, params).first() is not None

    def touch(self, connection: Connection) -> None:
        """Change no row with an UPDATE, which fails where the backend may not write."""
        connection.execute(self._touching)

    def claim_purge(self, connection: Connection) -> bool:
        """Return whether no other worker has begun to purge within the lease."""
        row = self._row(_PURGE) | {"state": "purge"}
        return self._insert_or_replace(connection, row)

    def purge(self, connection: Connection) -> int:
        """Delete a batch of expired rows, and return their number."""
        # Two statements: on MySQL and MariaDB a DELETE by a range of times locks the
        # rows next to it too, and a DELETE by id locks only what it deletes.
        task_ids = connection.scalars(self._expired).all()
        if not task_ids:
            return 0
        params = {"b_task_ids": self._list(text_of(task_id) for task_id in task_ids)}
        return connection.execute(self._purge, params).rowcount

    def _insert_lost(self, connection: Connection, lost: list[TaskRecord]) -> None:
        # The times are values, because PyMySQL sends many rows in one statement only if
        # every column is a value. The order is fixed, so that two workers never wait
        # for each other.
        clock: float = connection.scalar(select(now())) or 0.0
        times = {"created_at": clock, "expires_at": clock + self._lease}
        lost.sort(key=lambda record: record.task_id)
        for start in range(0, len(lost), _BATCH):
            rows = [self._row(x) | times for x in lost[start : start + _BATCH]]
            connection.execute(self._reinsertion, rows)

    def _owned(self, task_id: str, owner: Owner) -> dict[str, Any]:
        return {
            "b_task_id": self._text(task_id),
            "b_app": self._text(owner.app),
            "b_source": self._text(owner.source),
            "b_user": self._text(owner.user),
        }

    def _row(self, record: TaskRecord) -> dict[str, Any]:
        return {
            "task_id": self._text(record.task_id),
            "owner_app": self._text(record.owner.app),
            "owner_source": self._text(record.owner.source),
            "owner_user": self._text(record.owner.user),
            "worker_id": self._text(record.worker_id),
            "state": "running",
        }

    @abc.abstractmethod
    def _state_after_stop(
        self, connection: Connection, params: dict[str, Any]
    ) -> str | None:
        """Stop a task of an owner, ring its worker if it ran, and return its state.

        The state is None if there is no such task.
        """

    @abc.abstractmethod
    def _insert_or_replace(self, connection: Connection, row: dict[str, Any]) -> bool:
        """Insert a row unless its id is taken, and return whether it was free."""

    @abc.abstractmethod
    def _insert(self) -> Any:
        """Return the dialect's INSERT."""

    @abc.abstractmethod
    def _upsert(self, insertion: Any) -> Any:
        """Return the INSERT that replaces an expired row and leaves any other."""

    @abc.abstractmethod
    def _is_any(self) -> ColumnElement[bool]:
        """Return the condition that a row has one of the ids in ``b_task_ids``."""

    def _list(self, task_ids: Iterable[str]) -> Any:
        """Return the value of ``b_task_ids``."""
        return [self._text(task_id) for task_id in task_ids]

    def _text(self, value: str) -> Any:
        """Return an id or a name as its column stores it."""
        return value


def text_of(text: str | bytes) -> str:
    """Return an id or a name that was read from its column."""
    return text.decode() if isinstance(text, bytes) else text

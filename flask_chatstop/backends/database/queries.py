"""What the database backend asks of its table, in each database's own way.

Every statement is a transaction of its own: nothing stays locked between two of
them, and no BEGIN and no COMMIT goes over the wire.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    and_,
    bindparam,
    case,
    delete,
    select,
    update,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import IntegrityError

from flask_chatstop.backends.base import (
    EndReason,
    Owner,
    StopOutcome,
    TaskInfo,
    TaskRecord,
)
from flask_chatstop.backends.database.table import now

_BATCH = 500
#: What an insert puts in the place of an expired row, the time of expiry last.
REPLACED = (
    "owner_app",
    "owner_source",
    "owner_user",
    "worker_id",
    "state",
    "created_at",
    "expires_at",
)
# No task has this id: its row says that somebody has begun to purge a while ago.
_PURGE = TaskRecord("", Owner("", "", ""), "")


class Queries:
    """Ask a database without ``UPDATE ... RETURNING``: MySQL or MariaDB."""

    def __init__(self, table: Table, *, lease: float, retention: float) -> None:
        self._table, self._columns = table, table.c
        c = table.c
        fresh = {"created_at": now(), "expires_at": now() + lease}
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
        self._insertion = self._insert().values(fresh)
        self._reinsertion = self._upsert(self._insert())
        self._lease = lease
        self._replacement = (
            update(table).where(self._is_task, self._is_expired).values(fresh)
        )
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
            # What was stopping when its lease ran out stays so when it is renewed.
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
        """Insert a task, in the place of an expired one if need be."""
        return self._insert_or_replace(connection, self._row(record))

    def renew(self, connection: Connection, records: Sequence[TaskRecord]) -> None:
        """Renew tasks of one worker, and insert those that are lost."""
        if not records:
            return
        known = {record.task_id: record for record in records}
        params = {
            "b_worker_id": self._text(records[0].worker_id),
            "b_task_ids": self._list(known),
        }
        if connection.execute(self._renewal, params).rowcount == len(known):
            return
        for task_id in connection.scalars(self._kept, params):
            known.pop(_str(task_id), None)
        self._insert_lost(connection, list(known.values()))

    def stop(self, connection: Connection, task_id: str, owner: Owner) -> StopOutcome:
        """Let a task be stopping if it runs, and tell what it is."""
        params = self._owned(task_id, owner)
        found = self._found_stop(connection, params)
        if found is None:
            return StopOutcome.MISSING
        if found == "stopping":
            return StopOutcome.STOPPING
        stopped = found == EndReason.STOPPED
        return StopOutcome.STOPPED if stopped else StopOutcome.ENDED

    def end(
        self, connection: Connection, record: TaskRecord, reason: EndReason
    ) -> None:
        """Note how a task has ended."""
        params = {
            "b_task_id": self._text(record.task_id),
            "b_worker_id": self._text(record.worker_id),
            "b_reason": reason.value,
        }
        connection.execute(self._ending, params)

    def stops(self, connection: Connection, worker_id: str) -> set[str]:
        """Give the tasks of a worker that are stopping."""
        params = {"b_worker_id": self._text(worker_id)}
        return {_str(found) for found in connection.scalars(self._stopping, params)}

    def tasks(
        self, connection: Connection, wanted: Mapping[str, str | None]
    ) -> list[TaskInfo]:
        """Give what is running or stopping and has these values, the oldest first."""
        c = self._columns
        age = (now() - c.created_at).label("age")
        query = (
            select(c.task_id, c.owner_app, c.owner_source, c.owner_user)
            .add_columns(c.worker_id, c.state, age)
            .where(c.state.in_(["running", "stopping"]), ~self._is_expired)
            .where(*(c[k] == self._text(v) for k, v in wanted.items() if v is not None))
            .order_by(c.created_at)
        )
        found = []
        for *texts, state, seconds in connection.execute(query):
            task_id, app, source, user, worker_id = map(_str, texts)
            record = TaskRecord(task_id, Owner(app, source, user), worker_id)
            found.append(TaskInfo(record, state == "stopping", float(seconds)))
        return found

    def touch(self, connection: Connection) -> None:
        """Write nothing, which fails where something could not be written."""
        connection.execute(self._touching)

    def claim_purge(self, connection: Connection) -> bool:
        """Tell whether nobody else has begun to purge within the lease."""
        row = self._row(_PURGE) | {"state": "purge"}
        return self._insert_or_replace(connection, row)

    def purge(self, connection: Connection) -> int:
        """Delete a batch of expired rows, and give their number."""
        # Not in one statement: a DELETE by the range of a time locks the rows next
        # to it on MySQL and MariaDB, and one by id locks what it deletes.
        task_ids = connection.scalars(self._expired).all()
        if not task_ids:
            return 0
        params = {"b_task_ids": self._list(_str(task_id) for task_id in task_ids)}
        return connection.execute(self._purge, params).rowcount

    def _insert_lost(self, connection: Connection, lost: list[TaskRecord]) -> None:
        # With times that are values, as PyMySQL sends many rows at once if all of
        # each is; and in one order, so that no two workers wait for each other.
        clock: float = connection.scalar(select(now())) or 0.0
        times = {"created_at": clock, "expires_at": clock + self._lease}
        lost.sort(key=lambda record: record.task_id)
        for start in range(0, len(lost), _BATCH):
            rows = [self._row(x) | times for x in lost[start : start + _BATCH]]
            connection.execute(self._reinsertion, rows)

    def _found_stop(self, connection: Connection, params: dict[str, Any]) -> str | None:
        # MariaDB's UPDATE returns no columns, and it need not: a running task is
        # known by the count of rows, so only what is over or missing costs a second
        # statement. What begins between the two was missing when it was stopped.
        c = self._columns
        stop = update(self._table).where(self._is_owned, ~self._is_over)
        if connection.execute(stop.values(state="stopping"), params).rowcount:
            return "stopping"
        found = connection.scalar(select(c.state).where(self._is_owned), params)
        return None if found == "running" else found

    def _insert_or_replace(self, connection: Connection, row: dict[str, Any]) -> bool:
        # Not by ON DUPLICATE KEY UPDATE: its count of rows is 1 both for a row that
        # was inserted and for one that was left as it is.
        try:
            connection.execute(self._insertion, row)
        except IntegrityError:
            params = row | {"b_task_id": row["task_id"]}
            return bool(connection.execute(self._replacement, params).rowcount)
        return True

    def _insert(self) -> Any:
        return mysql.insert(self._table)

    def _upsert(self, insertion: Any) -> Any:
        new, old = insertion.inserted, self._columns
        # expires_at comes last: MySQL reads what it has just assigned.
        return insertion.on_duplicate_key_update(
            [
                (name, case((self._is_expired, new[name]), else_=old[name]))
                for name in REPLACED
            ]
        )

    def _is_any(self) -> ColumnElement[bool]:
        return self._columns.task_id.in_(bindparam("b_task_ids", expanding=True))

    def _list(self, task_ids: Iterable[str]) -> Any:
        return [self._text(task_id) for task_id in task_ids]

    def _text(self, value: str) -> Any:
        return value.encode()

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


def _str(task_id: str | bytes) -> str:
    return task_id.decode() if isinstance(task_id, bytes) else task_id

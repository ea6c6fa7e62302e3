"""Followers on PostgreSQL, who are rung by a cancellation."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import (
    ARRAY,
    Connection,
    Executable,
    Select,
    Table,
    Text,
    any_,
    bindparam,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.elements import ColumnElement

from flask_chatstop.backends.database.adding import Added, Adding
from flask_chatstop.backends.database.followers import FOLLOWS, Followers
from flask_chatstop.backends.database.news import News
from flask_chatstop.backends.database.postgresql_pipeline import Pipeline
from flask_chatstop.backends.database.postgresql_rows import ListenerRows, no_wait
from flask_chatstop.backends.database.statements import PsycopgStatement
from flask_chatstop.backends.database.table import now


class PostgreSQLFollowers(Followers):
    """Cancel the blocks that the listeners of followers let sleep.

    A listener has a row of its own beside those of the logs that it follows.
    """

    def __init__(self, table: Table, *, lease: float) -> None:
        super().__init__(table, lease=lease)
        c = table.c
        self._rows = ListenerRows(
            table, id="log_id", name="listener", number="number", others={}
        )
        is_any = c.log_id == any_(bindparam("b_log_ids", type_=ARRAY(Text)))
        self._ringing = PsycopgStatement(self._ringing_where(is_any))

    def _ringing_where(self, is_followed: ColumnElement[bool]) -> Select[Any]:
        c = self.columns
        names = select(c.listener).where(
            is_followed, c.state == FOLLOWS, c.expires_at > now()
        )
        return self._rows.ringing(names)

    def adding(self, insertion: Executable) -> Adding:
        is_it = self.columns.log_id == bindparam("b_log_id", type_=Text)
        return _PipelinedAdding(insertion, self._ringing_where(is_it))

    def ring_all(self, connection: Connection, news: Collection[News]) -> None:
        # In one transaction: what is to be seen by who is woken was committed before.
        log_ids = sorted(each.log_id for each in news)
        self._ringing.execute(connection, {"b_log_ids": log_ids})

    def ring(self, connection: Connection, listener: str) -> None:
        self._rows.ring(connection, listener)

    def register(self, connection: Connection, listener: str, number: int) -> None:
        self._rows.register(connection, listener, number)

    def _hasty(self, statement: Any) -> Any:
        return statement.returning(no_wait())

    def _upsert(self) -> Any:
        insertion = postgresql.insert(self.columns.listener.table)
        return insertion.on_conflict_do_update(
            index_elements=["listener", "log_id"],
            set_={"expires_at": insertion.excluded.expires_at},
        )


class _PipelinedAdding(Adding):
    def __init__(self, insertion: Executable, ringing: Select[Any]) -> None:
        super().__init__(insertion)
        self._pipeline = Pipeline("add", insertion, ringing)

    def execute(
        self, connection: Connection, values: Mapping[str, Any], news: News
    ) -> Added:
        if not self._pipeline.can_run(connection):
            return super().execute(connection, values, news)
        added = self._pipeline.execute(connection, values)
        return Added.AND_RUNG if added.command_tuples else Added.NOTHING

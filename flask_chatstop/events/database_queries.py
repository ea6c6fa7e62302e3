"""The queries of the database log; each statement is a transaction of its own."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Integer,
    String,
    Table,
    bindparam,
    delete,
    or_,
    select,
    update,
)

from flask_chatstop.backends.database.adding import Added
from flask_chatstop.backends.database.followers import FOLLOWS, Followers
from flask_chatstop.backends.database.news import News
from flask_chatstop.backends.database.statements import for_driver
from flask_chatstop.backends.database.table import now
from flask_chatstop.events.base import Page
from flask_chatstop.events.database_insert import insert_into, keeping, parts
from flask_chatstop.events.database_news import news_after, select_news
from flask_chatstop.events.records import END, HEAD, Record

#: Rows of one read. Most have at most 64 KiB.
_PAGE = 32
#: Rows of one UPDATE.
_ROWS = 500
#: Logs of one purge.
_PURGED = 50


class LogQueries:
    """The queries on the table of answers.

    :param dialect: SQLAlchemy's name of it.
    """

    def __init__(
        self, table: Table, followers: Followers, *, dialect: str, retention: float
    ) -> None:
        c = table.c
        head = table.alias("head")
        adding = keeping(
            insert_into(table, dialect).from_select(
                ["log_id", "number", "data"],
                select(
                    head.c.log_id,
                    bindparam("b_number", type_=Integer),
                    bindparam("b_data", type_=c.data.type),
                ).where(
                    head.c.log_id == bindparam("b_log_id"),
                    head.c.number == HEAD,
                    head.c.expires_at > now(),
                ),
            ),
            dialect,
        )
        self._adding = followers.adding(adding)
        self._insertion = keeping(insert_into(table, dialect), dialect)
        self._followers, self._retention = followers, retention
        is_any = c.log_id.in_(bindparam("b_log_ids", expanding=True))
        is_head = c.number == HEAD
        self._heads = select(c.log_id, followers.is_following(c.log_id)).where(
            is_any, is_head, c.expires_at > now()
        )
        self._deletion = delete(table).where(is_any)
        self._renewal = (
            update(table)
            .where(is_any, is_head, c.expires_at > now())
            .values(expires_at=now() + retention)
        )
        self._reading = (
            select(c.number, c.data, c.expires_at <= now())
            .where(
                c.log_id == bindparam("b_log_id"),
                or_(is_head, c.number > bindparam("b_after")),
            )
            .order_by(c.number)
            .limit(_PAGE + 1)
        )
        of = followers.columns
        self._last = select_news(table, bindparam("b_log_id", type_=String), dialect)
        self._news = select_news(table, of.log_id, dialect).where(
            of.listener == bindparam("b_listener"), of.state == FOLLOWS
        )
        self._expired = (
            select(c.log_id)
            .where(c.expires_at <= now())
            .order_by(c.expires_at)
            .limit(_PURGED)
        )

    def append(
        self, connection: Connection, logs: Mapping[str, Sequence[Record]]
    ) -> tuple[set[str], list[News]]:
        """Add records to logs.

        :returns: the logs that are unknown; and the news for which those who may follow
            are yet to be rung.
        """
        if (news := self._add_one(connection, logs)) is not None:
            return set(), news
        new = [x for x, records in logs.items() if records[0].number == HEAD]
        known = dict.fromkeys(new, False)
        if old := sorted(logs.keys() - known.keys()):
            heads = connection.execute(self._heads, {"b_log_ids": old})
            known.update((log_id, bool(is_followed)) for log_id, is_followed in heads)
        expires_at = None
        if new:
            connection.execute(self._deletion, {"b_log_ids": sorted(new)})
            clock: float = connection.scalar(select(now())) or 0.0
            expires_at = clock + self._retention
        rows = [
            {
                "log_id": log_id,
                "number": record.number,
                "data": record.data,
                "expires_at": expires_at if record.number == HEAD else None,
            }
            for log_id in sorted(known)  # so that two workers never wait for each other
            for record in logs[log_id]
        ]
        for part in parts(rows):
            connection.execute(self._insertion, part)
        # Somebody may have come since the heads were read. They learn of a batch with
        # the next one, and must not learn late of the end.
        news = [
            news_after(log_id, logs[log_id][-1])
            for log_id, is_followed in known.items()
            if is_followed or logs[log_id][-1].number == END
        ]
        return logs.keys() - known.keys(), news

    def _add_one(
        self, connection: Connection, logs: Mapping[str, Sequence[Record]]
    ) -> list[News] | None:
        """Add a single record in one round trip.

        :returns: the news for which is yet to be rung; ``None`` if nothing was added,
            since it is there, or has no log, or is not the only one.
        """
        [(log_id, records), *others] = logs.items()
        [record, *more] = records
        if others or more or record.number == HEAD:
            return None
        values = {"b_log_id": log_id, "b_number": record.number, "b_data": record.data}
        news = news_after(log_id, record)
        added = self._adding.execute(connection, values, news)
        if added is Added.NOTHING:
            return None
        return [] if added is Added.AND_RUNG else [news]

    def read(self, connection: Connection, log_id: str, after: int) -> Page | None:
        """Return the head of a log and the next records after a position."""
        # What was heard of is there to be read, too: records are inserted in order.
        self._followers.see_uncommitted(connection)
        values = {"b_log_id": log_id, "b_after": max(after, HEAD)}
        rows = connection.execute(self._reading, values).all()
        if not rows or rows[0][0] != HEAD or rows[0][2]:
            return None
        records = [Record(number, bytes(data)) for number, data, _ in rows[1:]]
        return Page(bytes(rows[0][1]), records)

    def last(self, connection: Connection, log_id: str) -> News:
        """Return the news of one log."""
        self._followers.see_uncommitted(connection)
        return News.parse(connection.scalar(self._last, {"b_log_id": log_id}) or "")

    def news(self, connection: Connection, listener: str) -> set[str]:
        """Return the news of the logs that a listener follows, as text."""
        self._followers.see_uncommitted(connection)
        return set(connection.scalars(self._news, {"b_listener": listener}))

    def news_statement(
        self, engine: Engine, listener: str
    ) -> tuple[str, dict[str, Any]]:
        """Return what :meth:`news` executes, for a connection of the driver's."""
        sql, params = for_driver(self._news, engine)
        return sql, params | {"b_listener": listener}

    def renew(self, connection: Connection, log_ids: Collection[str]) -> None:
        """Keep logs for another retention."""
        ids = sorted(log_ids)
        for start in range(0, len(ids), _ROWS):
            values = {"b_log_ids": ids[start : start + _ROWS]}
            connection.execute(self._renewal, values)

    def purge(self, connection: Connection) -> int:
        """Delete some logs that have expired, and return their number."""
        # By id, as the backend of tasks does it.
        log_ids = connection.scalars(self._expired).all()
        if log_ids:
            connection.execute(self._deletion, {"b_log_ids": sorted(log_ids)})
        return len(log_ids)

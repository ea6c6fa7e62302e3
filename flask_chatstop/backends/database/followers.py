"""Who follows a log of answers, by rows of a table, and how they are rung."""

import abc
from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Executable, Table, bindparam, delete, select, update
from sqlalchemy.sql.elements import ColumnElement

from flask_chatstop.backends.database.adding import Adding
from flask_chatstop.backends.database.news import News
from flask_chatstop.backends.database.table import now

#: The state of a row that says that a listener follows a log. Other rows are the
#: listeners' own.
FOLLOWS = "follows"
#: Rows of one statement.
_ROWS = 500


class Followers(abc.ABC):
    """The rows of one table: which listener follows which log; dialects complete them.

    :param table: as :func:`flask_chatstop.events.table.follower_table` makes it.
    :param lease: seconds that a row is good for.
    """

    def __init__(self, table: Table, *, lease: float) -> None:
        c = self.columns = table.c
        self._lease = lease
        is_any = c.log_id.in_(bindparam("b_log_ids", expanding=True))
        is_listeners = c.listener == bindparam("b_listener")
        is_row = c.state == FOLLOWS
        self._is_followed = is_any & is_row & (c.expires_at > now())
        self._insertion = self._hasty(self._upsert().values(expires_at=now() + lease))
        self._renewal = self._hasty(
            update(table)
            .where(is_listeners, is_any, is_row)
            .values(expires_at=now() + lease)
        )
        is_expired = c.expires_at <= now()
        self._forgetting = self._hasty(
            delete(table).where(is_listeners, is_any, is_row)
        )
        self._expiring = self._hasty(
            delete(table).where(is_listeners, is_row, is_expired)
        )
        self._leaving = self._hasty(delete(table).where(is_listeners))
        self._expired = select(c.listener).where(is_expired).distinct().limit(_ROWS)
        is_any_listeners = c.listener.in_(bindparam("b_listeners", expanding=True))
        self._purging = delete(table).where(is_any_listeners, is_expired)

    def is_following(self, log_id: ColumnElement[str]) -> ColumnElement[bool]:
        """Return the condition that somebody follows a log."""
        c = self.columns
        return (
            select(c.listener)
            .where(c.log_id == log_id, c.state == FOLLOWS, c.expires_at > now())
            .exists()
        )

    def follow(
        self, connection: Connection, listener: str, log_ids: Collection[str]
    ) -> None:
        """Store that a listener follows these logs, for the length of a lease."""
        rows = [
            {"listener": listener, "log_id": log_id, "number": "", "state": FOLLOWS}
            for log_id in sorted(log_ids)
        ]
        connection.execute(self._insertion, rows)

    def renew(
        self, connection: Connection, listener: str, log_ids: Collection[str]
    ) -> None:
        """Store it for another lease; forget the logs that were not renewed in time."""
        ids = sorted(log_ids)
        for start in range(0, len(ids), _ROWS):
            some = ids[start : start + _ROWS]
            values = {"b_listener": listener, "b_log_ids": some}
            if connection.execute(self._renewal, values).rowcount < len(some):
                self.follow(connection, listener, some)  # the database lost them
        connection.execute(self._expiring, {"b_listener": listener})

    def forget(
        self, connection: Connection, listener: str, log_ids: Collection[str]
    ) -> None:
        """Delete what says that a listener follows these logs."""
        values = {"b_listener": listener, "b_log_ids": sorted(log_ids)}
        connection.execute(self._forgetting, values)

    def leave(self, connection: Connection, listener: str) -> None:
        """Delete all rows of a listener."""
        connection.execute(self._leaving, {"b_listener": listener})

    def purge(self, connection: Connection) -> None:
        """Delete rows of listeners that are gone."""
        # By id, as the backend of tasks does it.
        if listeners := connection.scalars(self._expired).all():
            connection.execute(self._purging, {"b_listeners": sorted(listeners)})

    @abc.abstractmethod
    def _upsert(self) -> Any:
        """Return the INSERT that replaces the expiry of a row that exists."""

    def _hasty(self, statement: Any) -> Any:
        """Let a change be committed without waiting for the disk, where it can be.

        What is lost is stored again by the next renewal.
        """
        return statement

    def adding(self, insertion: Executable) -> Adding:
        """Return how one record is added by an INSERT, with the ring or without."""
        return Adding(insertion)

    @abc.abstractmethod
    def ring_all(self, connection: Connection, news: Collection[News]) -> None:
        """Ring those who follow the logs that have news.

        A ring may be lost.
        """

    def see_uncommitted(self, connection: Connection) -> None:  # noqa: B027
        """Let the next statement see what rings before it is committed.

        A poll that did not would take it back. Most dialects need nothing.
        """

    @abc.abstractmethod
    def ring(self, connection: Connection, listener: str) -> None:
        """Ring one listener."""

    def register(self, connection: Connection, listener: str, number: int) -> None:  # noqa: B027
        """Store how the server knows the connection of a listener.

        This one does nothing.
        """

"""Followers on SQLite, who are rung by their sockets."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Table, select
from sqlalchemy.dialects import sqlite

from flask_chatstop.backends.database.followers import Followers
from flask_chatstop.backends.database.news import News


class SQLiteFollowers(Followers):
    """Send a datagram to each listener, which says what there is."""

    def __init__(self, table: Table, *, lease: float) -> None:
        super().__init__(table, lease=lease)
        self._following = select(table.c.log_id, table.c.listener).where(
            self._is_followed
        )

    def ring_all(self, connection: Connection, news: Collection[News]) -> None:
        driver: Any = connection.connection.driver_connection
        texts = {each.log_id: str(each) for each in news}
        followed = {"b_log_ids": sorted(texts)}
        for log_id, listener in connection.execute(self._following, followed).all():
            driver.ringer.ring(listener, texts[log_id])

    def ring(self, connection: Connection, listener: str) -> None:
        driver: Any = connection.connection.driver_connection
        driver.ringer.ring(listener)

    def _upsert(self) -> Any:
        insertion = sqlite.insert(self.columns.listener.table)
        return insertion.on_conflict_do_update(
            set_={"expires_at": insertion.excluded.expires_at}
        )

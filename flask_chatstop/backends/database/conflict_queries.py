"""The queries of databases that have ``ON CONFLICT`` and ``RETURNING``."""

from typing import Any

from sqlalchemy import Connection, Table

from flask_chatstop.backends.database.queries import Queries
from flask_chatstop.backends.database.table import REPLACED


class ConflictQueries(Queries):
    """Insert a row, or replace the expired one that has its id, in one statement."""

    def __init__(self, table: Table, *, lease: float, retention: float) -> None:
        super().__init__(table, lease=lease, retention=retention)
        insertion = self._insert().values(self._fresh)
        self._taking = self._upsert(insertion).returning(table.c.task_id)

    def _insert_or_replace(self, connection: Connection, row: dict[str, Any]) -> bool:
        return connection.execute(self._taking, row).first() is not None

    def _upsert(self, insertion: Any) -> Any:
        return insertion.on_conflict_do_update(
            index_elements=[self._columns.task_id],
            set_={name: insertion.excluded[name] for name in REPLACED},
            where=self._is_expired,
        )

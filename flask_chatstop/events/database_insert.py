"""How the database log inserts records."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import mysql, postgresql, sqlite

from flask_chatstop.backends.database.postgresql_rows import no_wait
from flask_chatstop.events.records import END

#: Bytes and rows of one INSERT.
_LONGEST, _ROWS = 1024 * 1024, 500


def insert_into(table: Table, dialect: str) -> Any:
    """Return an INSERT of a dialect, by SQLAlchemy's name of it."""
    modules: dict[str, Any] = {"postgresql": postgresql, "sqlite": sqlite}
    return modules.get(dialect, mysql).insert(table)


def keeping(insertion: Any, dialect: str) -> Any:
    """Let an INSERT leave rows as they are that exist."""
    c = insertion.table.c
    if dialect in ("mysql", "mariadb"):
        return insertion.on_duplicate_key_update({"number": c.number})
    insertion = insertion.on_conflict_do_nothing()
    if dialect != "postgresql":
        return insertion
    # The followers of an end need not wait for the disk: the renewal that comes next
    # does, and so for all before it.
    return insertion.returning(no_wait(c.number == END))


def parts(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Return rows in parts that one INSERT can take."""
    part: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        if part and (size > _LONGEST or len(part) >= _ROWS):
            yield part
            part, size = [], 0
        part.append(row)
        size += len(row["data"])
    if part:
        yield part

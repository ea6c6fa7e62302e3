"""The table that the database backend keeps tasks in."""

from typing import Any

from sqlalchemy import Column, Double, Index, MetaData, String, Table
from sqlalchemy.dialects.mysql import VARBINARY
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

TABLE_NAME = "chatstop_task"
#: The columns that an insert sets when it replaces an expired row. ``expires_at`` is
#: last, because MySQL reads the new values of columns that it has already assigned.
REPLACED = (
    "owner_app",
    "owner_source",
    "owner_user",
    "worker_id",
    "state",
    "created_at",
    "expires_at",
)


def task_table(metadata: MetaData) -> Table:
    """Return the table in a metadata, and add it if it is missing.

    Call it where your models are, so that Alembic and Flask-Migrate see the table::

        task_table(db.metadata)

    Times are seconds since 1970 by the clock of the database.
    """
    return Table(
        TABLE_NAME,
        metadata,
        Column("task_id", _exact(), primary_key=True),
        Column("owner_app", _exact(), nullable=False),
        Column("owner_source", _exact(), nullable=False),
        Column("owner_user", _exact(), nullable=False),
        Column("worker_id", _exact(), nullable=False),
        Column("state", String(16), nullable=False),
        Column("created_at", Double(), nullable=False),
        Column("expires_at", Double(), nullable=False),
        Index("ix_chatstop_task_worker_id_state", "worker_id", "state"),
        Index("ix_chatstop_task_expires_at", "expires_at"),
        keep_existing=True,
    )


def _exact() -> TypeEngine[str]:
    """Return a type that stores 255 characters and compares them byte for byte."""
    # No collation of both MySQL and MariaDB distinguishes "a" from "a "; bytes do.
    # PostgreSQL's other collations compare exactly too, but their indexes break when
    # a new C library on the server changes the order.
    return (
        String(255)
        .with_variant(String(255, collation="C"), "postgresql")
        .with_variant(VARBINARY(4 * 255), "mysql", "mariadb")
    )


class now(FunctionElement[float]):
    """The seconds since 1970 by the clock of the database."""

    type = Double()
    inherit_cache = True


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: Any, **options: Any) -> str:
    # Not clock_timestamp(): a value that may change within a statement uses no index.
    return "CAST(EXTRACT(EPOCH FROM statement_timestamp()) AS DOUBLE PRECISION)"


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: Any, **options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "mysql")
@compiles(now, "mariadb")
def _now_mysql(element: now, compiler: Any, **options: Any) -> str:
    # Not UNIX_TIMESTAMP(NOW(6)), which goes back by an hour when summer time ends.
    return "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) / 1e6)"

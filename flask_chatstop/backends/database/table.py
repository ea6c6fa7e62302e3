"""The table that the database backend keeps tasks in."""

from typing import Any

from sqlalchemy import Column, Double, Index, MetaData, String, Table
from sqlalchemy.dialects.mysql import VARBINARY
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

TABLE_NAME = "chatstop_task"


def task_table(metadata: MetaData) -> Table:
    """Give the table of a metadata, put there unless it is there.

    Call it where the models are, and Alembic and Flask-Migrate see the table::

        task_table(db.metadata)

    Times are seconds since 1970 by the database's clock.
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
    """Give a type that keeps 255 characters and compares them byte for byte."""
    # MySQL and MariaDB share no collation that tells "a" from "a ", but bytes do.
    # PostgreSQL's other collations compare exactly too, but their indexes break when
    # the C library of the server changes its mind about the order.
    return (
        String(255)
        .with_variant(String(255, collation="C"), "postgresql")
        .with_variant(VARBINARY(4 * 255), "mysql", "mariadb")
    )


class now(FunctionElement[float]):
    """Give the seconds since 1970 by the database's clock."""

    type = Double()
    inherit_cache = True


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: Any, **options: Any) -> str:
    # Not clock_timestamp(): what may change within a statement uses no index.
    return "CAST(EXTRACT(EPOCH FROM statement_timestamp()) AS DOUBLE PRECISION)"


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: Any, **options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "mysql")
@compiles(now, "mariadb")
def _now_mysql(element: now, compiler: Any, **options: Any) -> str:
    # Not UNIX_TIMESTAMP(NOW(6)): it goes back an hour when summer time ends.
    return "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) / 1e6)"

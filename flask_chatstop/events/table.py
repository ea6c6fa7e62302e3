"""The table that the database log keeps answers in."""

from sqlalchemy import (
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)
from sqlalchemy.dialects.mysql import LONGBLOB

TABLE_NAME = "chatstop_event"


def event_table(metadata: MetaData) -> Table:
    """Return the table of answers in a metadata, and add it if it is missing.

    Call it where your models are, so that Alembic and Flask-Migrate see the table.
    Times are seconds since 1970 by the clock of the database. Only the first row of a
    log, with the number 0, says when it expires.
    """
    return Table(
        TABLE_NAME,
        metadata,
        Column("log_id", String(64), primary_key=True),
        Column("number", Integer(), primary_key=True, autoincrement=False),
        Column(
            "data",
            LargeBinary().with_variant(LONGBLOB(), "mysql", "mariadb"),
            nullable=False,
        ),
        Column("expires_at", Double(), nullable=True),
        Index("ix_chatstop_event_expires_at", "expires_at"),
        keep_existing=True,
    )

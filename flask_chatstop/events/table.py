"""The tables of the database log: the answers, and who follows them."""

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
FOLLOWERS_NAME = "chatstop_follower"


def event_table(metadata: MetaData) -> Table:
    """Return the log's table in a metadata, and add it if it is missing.

    It adds the table of the followers too. Call it where your models are, so that
    Alembic and Flask-Migrate see both tables. Times are seconds since 1970 by the
    clock of the database. Only the first row of a log, with the number 0, says when it
    expires.
    """
    follower_table(metadata)
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


def follower_table(metadata: MetaData) -> Table:
    """Return the table of those who follow answers, and add it if it is missing.

    A row says that the listener of a process follows a log. On PostgreSQL a listener
    has a row of its own, with the number of its process at the server.
    """
    return Table(
        FOLLOWERS_NAME,
        metadata,
        Column("listener", String(64), primary_key=True),
        Column("log_id", String(64), primary_key=True),
        Column("number", String(16), nullable=False),
        Column("state", String(16), nullable=False),
        Column("expires_at", Double(), nullable=False),
        Index("ix_chatstop_follower_log_id", "log_id"),
        keep_existing=True,
    )

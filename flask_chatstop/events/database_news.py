"""The news of logs, as their writers tell them and as the database selects them."""

from typing import Any

from sqlalchemy import Select, String, Table, cast, func, select

from flask_chatstop.backends.database.news import LONGEST_END, News
from flask_chatstop.events.followed import NOTHING
from flask_chatstop.events.records import END, Record


def news_after(log_id: str, record: Record) -> News:
    """Return the news that a record was added to a log."""
    is_told = record.number == END and len(record.data) <= LONGEST_END
    return News(log_id, record.number, record.data if is_told else None)


def select_news(table: Table, log_id: Any, dialect: str) -> Select[Any]:
    """Select the news of a log as text.

    :param dialect: SQLAlchemy's name of it.
    """
    c = table.c
    number = select(func.max(c.number)).where(c.log_id == log_id).scalar_subquery()
    digits = func.hex(c.data, type_=String)
    if dialect == "postgresql":
        digits = func.upper(func.encode(c.data, "hex"), type_=String)
    end = (
        select(digits)
        .where(c.log_id == log_id, c.number == END, func.length(c.data) <= LONGEST_END)
        .scalar_subquery()
    )
    text = cast(func.coalesce(number, NOTHING), String(16))
    told = func.coalesce(cast(" ", String(1)).concat(end), "")
    return select(log_id.concat(" ").concat(text).concat(told))

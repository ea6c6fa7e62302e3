"""What was sent of the answers, kept for those who come back to them."""

from flask_chatstop.backends import needs_sqlalchemy, store_url
from flask_chatstop.events.base import MAX_BYTES, EventLog, Page
from flask_chatstop.events.memory import MemoryEventLog
from flask_chatstop.events.records import Record
from flask_chatstop.events.redis import RedisEventLog

__all__ = [
    "MAX_BYTES",
    "EventLog",
    "MemoryEventLog",
    "Page",
    "Record",
    "RedisEventLog",
    "events_from_url",
]


# Tracebacks, repr() and the documentation name the path that users import from.
for _class in (EventLog, MemoryEventLog, Page, Record, RedisEventLog):
    _class.__module__ = __name__


def events_from_url(
    url: str,
    *,
    retention: float = 600.0,
    timeout: float = 2.0,
    max_bytes: int = MAX_BYTES,
) -> EventLog:
    """Return the log that a URL names, without connecting to it.

    :param url: as for :func:`~flask_chatstop.backend_from_url`.
    :param retention: see :class:`EventLog`, also for the other options.
    :raises ConfigurationError: no log has this scheme, or its package is missing.
    """
    kind, url = store_url(url)
    if kind == "memory":
        return MemoryEventLog(retention=retention, timeout=timeout, max_bytes=max_bytes)
    if kind == "redis":
        return RedisEventLog(
            url, retention=retention, timeout=timeout, max_bytes=max_bytes
        )
    with needs_sqlalchemy():
        from flask_chatstop.events.database import DatabaseEventLog
    return DatabaseEventLog(
        url, retention=retention, timeout=timeout, max_bytes=max_bytes
    )

"""PostgreSQL, with psycopg 3 or the driver of the app's engine.

A stop cancels the block that the listener of the task's worker lets sleep:
``postgresql_queries.py`` has the stop, ``postgresql_listener.py`` the listener.
``postgresql_connection.py`` has what psycopg needs to connect and to wait.
"""

from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import (
    URL,
    Engine,
    Table,
    event,
)

from flask_chatstop.backends.database.base import (
    Dialect,
    ListenEnd,
    Listening,
    check_names,
)
from flask_chatstop.backends.database.driver_errors import (
    refuses_data,
    sqlstate_of,
)
from flask_chatstop.backends.database.followers import Followers
from flask_chatstop.backends.database.postgresql_connection import (
    PostgreSQLConnect,
    bounded,
)
from flask_chatstop.backends.database.postgresql_followers import PostgreSQLFollowers
from flask_chatstop.backends.database.postgresql_keywords import KEYWORDS
from flask_chatstop.backends.database.postgresql_listener import hear_cancellations
from flask_chatstop.backends.database.postgresql_queries import PostgreSQLQueries
from flask_chatstop.backends.database.queries import Queries

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_SERIALIZATION_FAILURE, _DEADLOCK_DETECTED = "40001", "40P01"
# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
_NUMBERS = {
    "connect_timeout",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "tcp_user_timeout",
}
_UNDEFINED_TABLE = "42P01"
# A server that has become a standby; "cached plan must not change result type", after a
# migration; a prepared statement that the server does not know.
_OUTDATED = ("25006", "0A000", "26000")


class PostgreSQL(Dialect):
    """What the backend does on PostgreSQL."""

    driver = module = "psycopg"
    extra = "postgresql"

    def queries(self, table: Table, *, lease: float, retention: float) -> Queries:
        return PostgreSQLQueries(table, lease=lease, retention=retention)

    def followers(self, table: Table, *, lease: float) -> Followers:
        return PostgreSQLFollowers(table, lease=lease)

    def check_options(self, options: dict[str, Any]) -> None:
        check_names(options, KEYWORDS, "PostgreSQL")
        for name in _NUMBERS.intersection(options):
            int(options[name])

    def make_engine(self, url: URL, timeout: float, *, is_shared: bool) -> Engine:
        engine = self._create_engine(url, timeout)
        event.listen(engine, "do_connect", PostgreSQLConnect(timeout).connect)
        return engine

    def bounded(self, driver: Any, deadline: float) -> AbstractContextManager[None]:
        if not hasattr(driver, "pgconn"):  # not psycopg 3
            return super().bounded(driver, deadline)
        return bounded(driver, deadline)

    def can_listen(self, engine: Engine) -> bool:
        return engine.driver == "psycopg"

    def listen(self, driver: Any, listening: Listening) -> ListenEnd:
        return hear_cancellations(driver, listening)

    def may_retry(self, error: Any) -> bool:
        # A conflict occurs where the default isolation is stricter than usual.
        return sqlstate_of(error) in (_SERIALIZATION_FAILURE, _DEADLOCK_DETECTED)

    def is_missing_table(self, error: Any) -> bool:
        return sqlstate_of(error) == _UNDEFINED_TABLE

    def is_outdated(self, error: Any) -> bool:
        return sqlstate_of(error) in _OUTDATED

    def is_refusal(self, error: Any) -> bool:
        return refuses_data(error)

    def text_of(self, error: object) -> str:
        # Without the detail and the context, which quote the row and its user.
        primary = getattr(getattr(error, "diag", None), "message_primary", None)
        return super().text_of(primary or error)

"""MySQL and MariaDB, with PyMySQL or the driver of the app's engine.

A stop kills the query that the listener of the task's worker lets sleep:
``mysql_queries.py`` has the stop, ``mysql_listener.py`` the listener.
"""

import inspect
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    URL,
    Engine,
    Table,
)

from flask_chatstop.backends.database.base import (
    Dialect,
    ListenEnd,
    Listening,
    check_names,
    is_readable,
)
from flask_chatstop.backends.database.driver_errors import (
    number_of,
    refuses_data,
    sqlstate_of,
)
from flask_chatstop.backends.database.followers import Followers
from flask_chatstop.backends.database.mysql_followers import MySQLFollowers
from flask_chatstop.backends.database.mysql_listener import hear_kills
from flask_chatstop.backends.database.mysql_queries import MySQLQueries
from flask_chatstop.backends.database.queries import Queries

_DEADLOCK = 1213
_NO_SUCH_TABLE = 1146
# By an option of the server, by its transaction, or by its mode.
_READ_ONLY = (1290, 1792, 1836)
# A value that is null, too long, out of range or of another character set; a key, a
# CHECK of MySQL or MariaDB, or a trigger that is against it.
# https://mariadb.com/docs/server/reference/error-codes/mariadb-error-code-reference
_REFUSALS = frozenset(
    [1048, 1062, 1216, 1264, 1265, 1292, 1364, 1366, 1406, 1452, 1644, 3819, 4025]
)


class MySQL(Dialect):
    """What the backend does on MySQL and on MariaDB."""

    driver = module = "pymysql"
    extra = "mysql"

    def queries(self, table: Table, *, lease: float, retention: float) -> Queries:
        return MySQLQueries(table, lease=lease, retention=retention)

    def followers(self, table: Table, *, lease: float) -> Followers:
        return MySQLFollowers(table, lease=lease)

    def check_options(self, options: dict[str, Any]) -> None:
        # Unlike psycopg, it may be imported before gevent patches: it looks up what it
        # takes from the socket module when it uses it.
        from pymysql.connections import Connection as Driver

        known = inspect.signature(Driver.__init__).parameters
        check_names(options, known, "PyMySQL")

    def make_engine(self, url: URL, timeout: float, *, is_shared: bool) -> Engine:
        seconds = max(1, int(timeout))
        connect_args = {
            "connect_timeout": timeout,
            "read_timeout": timeout,
            "write_timeout": timeout,
            # Otherwise the server still waits when the client has given up.
            "init_command": f"SET SESSION lock_wait_timeout={seconds},"
            f" innodb_lock_wait_timeout={seconds}",
        }
        return self._create_engine(url, timeout, connect_args=connect_args)

    @contextmanager
    def bounded(self, driver: Any, deadline: float) -> Iterator[None]:
        if not hasattr(driver, "_read_timeout"):  # not PyMySQL
            yield
            return
        before = driver._read_timeout, driver._write_timeout
        left = max(0.001, deadline - time.monotonic())
        driver._read_timeout = driver._write_timeout = left
        try:
            yield
        finally:
            driver._read_timeout, driver._write_timeout = before

    def can_listen(self, engine: Engine) -> bool:
        return engine.driver == "pymysql"

    def listen(self, driver: Any, listening: Listening) -> ListenEnd:
        with self.bounded(driver, time.monotonic() + listening.timeout):
            return hear_kills(driver, listening)

    def may_retry(self, error: Any) -> bool:
        # The number is PyMySQL's and mysqlclient's, the state is other drivers'.
        return number_of(error) == _DEADLOCK or sqlstate_of(error) == "40001"

    def is_missing_table(self, error: Any) -> bool:
        return number_of(error) == _NO_SUCH_TABLE

    def is_outdated(self, error: Any) -> bool:
        return number_of(error) in _READ_ONLY

    def is_refusal(self, error: Any) -> bool:
        return number_of(error) in _REFUSALS or refuses_data(error)

    def is_stale(self, driver: Any) -> bool:
        return is_readable(getattr(driver, "_sock", driver))  # PyMySQL's socket

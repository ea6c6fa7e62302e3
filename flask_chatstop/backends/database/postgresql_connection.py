"""How psycopg connects to PostgreSQL, and waits no longer than it may.

psycopg itself is imported only when it is used: it must see what gevent has patched.
"""

import math
import socket
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from sqlalchemy.engine.interfaces import Dialect

from flask_chatstop.errors import BackendError

#: TCP_KEEPALIVE is macOS's name of TCP_KEEPIDLE.
_KEEP_ALIVE = {
    "TCP_KEEPIDLE": 10,
    "TCP_KEEPALIVE": 10,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 3,
}


class PostgreSQLConnect:
    """Connect psycopg to PostgreSQL, or to a pooler that refuses options."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        # The server gives up a moment before the client, so that the client does not
        # lose the connection with the statement.
        self._options = f"-c statement_timeout={max(1, int(timeout * 900))}"

    def connect(
        self, dialect: Dialect, record: Any, cargs: Any, cparams: dict[str, Any]
    ) -> Any:
        """Return a new connection of psycopg, as a handler of ``do_connect``."""
        deadline = time.monotonic() + self._timeout
        # psycopg reads a value below 2 as 2, as libpq does.
        cparams.setdefault("connect_timeout", max(2, math.ceil(self._timeout)))
        cparams["client_encoding"] = "utf8"
        driver = dialect.loaded_dbapi
        if self._options:
            options = f"{self._options} {cparams.get('options', '')}".strip()
            try:
                with_options = cparams | {"options": options}
                return _ready(driver.connect(*cargs, **with_options), deadline)
            except driver.OperationalError as error:
                # https://www.pgbouncer.org/config.html#ignore_startup_parameters;
                # RDS Proxy uses other words.
                text = str(error)
                if "startup parameter" not in text and "command-line" not in text:
                    raise
                self._options = ""
        return _ready(driver.connect(*cargs, **cparams), deadline)


@contextmanager
def bounded(connection: Any, deadline: float) -> Iterator[None]:
    """Let the calls on a connection of psycopg end by the deadline."""
    connection.wait = partial(_wait_until, connection, deadline)
    try:
        yield
    finally:
        del connection.wait


def keep_alive(connection: Any) -> None:
    """Probe a silent connection, and give it up after 25 s without an answer."""
    with socket.socket(fileno=socket.dup(connection.fileno())) as sock:
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _KEEP_ALIVE.items():
                if option := getattr(socket, name, None):
                    sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _ready(connection: Any, deadline: float) -> Any:
    try:
        keep_alive(connection)
        # SQLAlchemy queries a new connection before `bounded` is used on it.
        connection.wait = partial(_wait_until, connection, deadline)
        # Behind a pooler, the process id of the connection is the pooler's own. There,
        # a statement that one transaction prepares does not exist in the next.
        served_by = connection.execute("SELECT pg_backend_pid()").fetchone()[0]
        connection.rollback()
        encoding = connection.info.parameter_status("server_encoding")
        if encoding not in ("UTF8", None):
            raise BackendError(
                f"The database is encoded as {encoding}, which cannot store every user;"
                " name one that is encoded as UTF8."
            )
    except BaseException:
        connection.close()
        raise
    if served_by != connection.info.backend_pid:
        connection.prepare_threshold = None
    return connection


def _wait_until(
    connection: Any, deadline: float, query: Any, *args: Any, **options: Any
) -> Any:
    """Wait for PostgreSQL as psycopg does, but not past the deadline.

    psycopg has no timeout of its own for a server that does not answer.
    """
    until = _until(query, deadline, connection)
    return type(connection).wait(connection, until, *args, **options)


def _until(
    query: Generator[Any, Any, Any], deadline: float, connection: Any
) -> Generator[Any, Any, Any]:
    try:
        wanted = next(query)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > deadline:
                connection.pgconn.finish()
                raise connection.OperationalError("no answer in time")
            wanted = query.send(ready)
    except StopIteration as end:
        return end.value

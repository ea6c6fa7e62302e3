"""What psycopg needs to be told, to connect and to wait."""

import math
import os
import socket
import time
from collections.abc import Generator
from functools import partial
from typing import Any

from sqlalchemy.engine.interfaces import Dialect

from flask_chatstop.errors import BackendError


def keep_alive(connection: Any) -> None:
    """Have a silent connection of psycopg probed, and given up after 25 s."""
    with socket.socket(fileno=os.dup(connection.fileno())) as sock:
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in (("IDLE", 10), ("INTVL", 5), ("CNT", 3)):
                if option := getattr(socket, f"TCP_KEEP{name}", None):
                    sock.setsockopt(socket.IPPROTO_TCP, option, value)


class PostgreSQLConnect:
    """Connect psycopg to PostgreSQL, or to a pooler that refuses options."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        # A moment before we give up, so that the connection is not lost with it.
        self._options = f"-c statement_timeout={max(1, int(timeout * 900))}"

    def connect(
        self, dialect: Dialect, record: Any, cargs: Any, cparams: dict[str, Any]
    ) -> Any:
        deadline = time.monotonic() + self._timeout
        # psycopg takes less than 2 for 2, as libpq does.
        cparams.setdefault("connect_timeout", max(2, math.ceil(self._timeout)))
        cparams["client_encoding"] = "utf8"
        driver = dialect.loaded_dbapi
        if self._options:
            options = f"{self._options} {cparams.get('options', '')}".strip()
            try:
                with_options = cparams | {"options": options}
                return _ready(driver.connect(*cargs, **with_options), deadline)
            except driver.OperationalError as error:
                # https://www.pgbouncer.org/config.html#ignore_startup_parameters,
                # and RDS Proxy in words of its own.
                text = str(error)
                if "startup parameter" not in text and "command-line" not in text:
                    raise
                self._options = ""
        return _ready(driver.connect(*cargs, **cparams), deadline)


def _ready(connection: Any, deadline: float) -> Any:
    try:
        keep_alive(connection)
        # For what SQLAlchemy asks of a new connection, before `bounded` takes over.
        connection.wait = partial(wait_until, connection, deadline)
        # The pooler has an id of its own; through it, what one transaction prepares
        # is not there in the next.
        served_by = connection.execute("SELECT pg_backend_pid()").fetchone()[0]
        connection.rollback()
        encoding = connection.info.parameter_status("server_encoding")
        if encoding not in ("UTF8", None):
            raise BackendError(
                f"The database is encoded as {encoding}, which cannot hold every user;"
                " name one that is encoded as UTF8."
            )
    except BaseException:
        connection.close()
        raise
    if served_by != connection.info.backend_pid:
        connection.prepare_threshold = None
    return connection


def wait_until(
    connection: Any, deadline: float, asking: Any, *args: Any, **options: Any
) -> Any:
    """Wait for PostgreSQL as psycopg does, but not past the deadline.

    psycopg has no timeout of its own for a server that does not answer.
    """
    until = _until(asking, deadline, connection)
    return type(connection).wait(connection, until, *args, **options)


def _until(
    asking: Generator[Any, Any, Any], deadline: float, connection: Any
) -> Generator[Any, Any, Any]:
    try:
        wanted = next(asking)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > deadline:
                connection.pgconn.finish()
                raise connection.OperationalError("no answer in time")
            wanted = asking.send(ready)
    except StopIteration as end:
        return end.value

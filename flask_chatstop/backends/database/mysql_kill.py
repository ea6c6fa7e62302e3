"""The kill of a listener's waiting query on MySQL and MariaDB."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, select, text

from flask_chatstop.backends.database.mysql_listener import LOCK_PREFIX
from flask_chatstop.backends.database.statements import PyMySQLStatement


def holder(lock: Any) -> Select[Any]:
    """Select the connection that holds a lock, and the one that asks."""
    return select(func.is_used_lock(lock), func.connection_id())


_listener = PyMySQLStatement(holder(bindparam("b_lock")))


def ring(connection: Connection, name: str) -> None:
    """Kill the waiting query of one listener."""
    params = {"b_lock": LOCK_PREFIX + name}
    found = _listener.execute_and_forget(connection, params)
    kill(connection, [found] if found else [])


def kill(connection: Connection, holders: Iterable[Any]) -> None:
    """Kill the waiting queries of listeners, if they are on this server.

    :param holders: rows of :func:`holder`.
    """
    driver: Any = connection.connection.driver_connection
    if not hasattr(driver, "thread_id"):  # it does not tell whether a proxy is used
        return
    for number, own in holders:
        # What was written is committed. Where it does not ring, a poll finds it.
        if number is not None and own == driver.thread_id():
            query = PyMySQLStatement(text(f"KILL QUERY {number:d}"))
            query.execute_and_forget(connection, {})

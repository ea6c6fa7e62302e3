"""Statements that go past SQLAlchemy's execution, which takes longer than MariaDB's."""

from typing import Any

from sqlalchemy import Connection, Executable
from sqlalchemy.dialects.mysql import pymysql
from sqlalchemy.engine import interfaces

#: The numbers of errors below this one are the server's. Others are the client's: the
#: connection was cut, or there is no answer in time.
_CLIENT_ERRORS = 2000


class Statement:
    """A statement that a stop executes.

    :param clause: of SQLAlchemy.
    """

    def __init__(self, clause: Executable) -> None:
        self._clause = clause
        dialect: interfaces.Dialect = pymysql.dialect(paramstyle="pyformat")
        compiled = clause.compile(dialect=dialect)  # type: ignore[attr-defined]
        self._sql, self._params = str(compiled), compiled.params

    def execute(self, connection: Connection, params: dict[str, Any]) -> Any:
        """Execute it, and return what has ``rowcount`` and ``fetchone()``."""
        is_translated = "schema_translate_map" in connection.get_execution_options()
        if connection.dialect.driver != "pymysql" or is_translated:
            return connection.execute(self._clause, params)
        return _execute(connection, self._sql, self._params | params)


def kill(connection: Connection, number: int) -> None:
    """Kill the query of another connection."""
    sql = f"KILL QUERY {number:d}"
    if connection.dialect.driver == "pymysql":
        _execute(connection, sql)
    else:
        connection.exec_driver_sql(sql)


def _execute(connection: Connection, sql: str, params: Any = None) -> Any:
    # Not one of the engine's own kind, which may return dictionaries.
    from pymysql.cursors import Cursor

    driver: Any = connection.connection.driver_connection
    cursor = driver.cursor(Cursor)
    try:
        cursor.execute(sql, params)
    except BaseException as error:
        number = error.args[0] if error.args else None
        if not isinstance(number, int) or number >= _CLIENT_ERRORS:
            # The pool must not keep it: it was cut, or interrupted while it waited.
            connection.invalidate()
        raise
    return cursor

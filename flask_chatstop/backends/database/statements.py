"""Statements that go past SQLAlchemy: its execution takes longer than the server's."""

import abc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, Executable
from sqlalchemy.dialects.mysql import pymysql
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.engine import interfaces
from sqlalchemy.exc import SQLAlchemyError

# MySQL's errors with numbers below this one are the server's. Others are the client's:
# the connection was cut, or there is no answer in time.
_CLIENT_ERRORS = 2000


def is_plain(connection: Connection, driver: str) -> bool:
    """Return whether SQL that was compiled before can be given to this driver."""
    is_translated = "schema_translate_map" in connection.get_execution_options()
    return connection.dialect.driver == driver and not is_translated


def for_driver(clause: Executable, engine: Engine) -> tuple[str, dict[str, Any]]:
    """Return what an engine executes, and its parameters, for a driver's connection."""
    schemas = engine.get_execution_options().get("schema_translate_map")
    options: dict[str, Any] = {}
    if schemas:
        options = {"schema_translate_map": schemas, "render_schema_translate": True}
    compiled = clause.compile(engine, **options)  # type: ignore[attr-defined]
    return str(compiled), compiled.params


class Statement(abc.ABC):
    """A statement that a stop executes.

    :param clause: of SQLAlchemy, which executes it where the engine has another driver,
        or translates the names of schemas.
    """

    #: The driver, and SQLAlchemy's dialect of it.
    driver: str
    dialect: interfaces.Dialect

    def __init__(self, clause: Executable) -> None:
        self._clause = clause
        compiled = clause.compile(dialect=self.dialect)  # type: ignore[attr-defined]
        self._sql, self._params = str(compiled), compiled.params

    def execute(self, connection: Connection, params: dict[str, Any]) -> Any:
        """Execute it, and return what has ``rowcount`` and ``fetchone()``."""
        if not is_plain(connection, self.driver):
            return connection.execute(self._clause, params)
        driver: Any = connection.connection.driver_connection
        with self.kept(connection):
            return self._execute(driver, self._sql, self._params | params)

    @contextmanager
    def kept(self, connection: Connection) -> Iterator[None]:
        """Drop a connection that breaks in the block."""
        driver: Any = connection.connection.driver_connection
        try:
            yield
        except BaseException as error:
            # It was cut, or interrupted while it waited: the pool must not keep it.
            if self._is_broken(driver, error):
                connection.invalidate()
            raise

    def execute_and_forget(self, connection: Connection, params: dict[str, Any]) -> Any:
        """Execute what may fail without harm; return its row, None if there is none."""
        try:
            return self.execute(connection, params).fetchone()
        except (SQLAlchemyError, connection.dialect.loaded_dbapi.Error):
            return None

    @abc.abstractmethod
    def _execute(self, driver: Any, sql: str, params: dict[str, Any]) -> Any:
        """Execute SQL on a connection of the driver."""

    @abc.abstractmethod
    def _is_broken(self, driver: Any, error: BaseException) -> bool:
        """Return whether the connection cannot be used after an error."""


def is_servers(error: BaseException) -> bool:
    """Return whether a driver's error is MySQL's own, and the connection is well."""
    number = error.args[0] if error.args else None
    return isinstance(number, int) and number < _CLIENT_ERRORS


class PyMySQLStatement(Statement):
    """One for MySQL and MariaDB."""

    driver = "pymysql"
    dialect = pymysql.dialect(paramstyle="pyformat")

    def text(self, driver: Any, params: dict[str, Any]) -> str:
        """Return it with its parameters, as the driver sends it."""
        from pymysql.cursors import Cursor

        text: str = driver.cursor(Cursor).mogrify(self._sql, self._params | params)
        return text

    def _execute(self, driver: Any, sql: str, params: dict[str, Any]) -> Any:
        # Not a cursor of the engine's own kind, which may return dictionaries.
        from pymysql.cursors import Cursor

        cursor = driver.cursor(Cursor)
        cursor.execute(sql, params)
        return cursor

    def _is_broken(self, driver: Any, error: BaseException) -> bool:
        return not is_servers(error)


class PsycopgStatement(Statement):
    """One for PostgreSQL."""

    driver = "psycopg"
    dialect = psycopg.dialect()  # type: ignore[no-untyped-call]

    def _execute(self, driver: Any, sql: str, params: dict[str, Any]) -> Any:
        return driver.execute(sql, params)

    def _is_broken(self, driver: Any, error: BaseException) -> bool:
        return bool(driver.info.transaction_status.name != "IDLE")

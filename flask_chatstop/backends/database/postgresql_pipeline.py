"""Two transactions on PostgreSQL in one round trip, by libpq's pipeline mode.

The server gets at once what is to be stored, a stop or a record of an answer, and the
cancellation of the listeners. It begins the second one when it has committed the first.
"""

import itertools
from collections.abc import Generator, Mapping
from typing import Any

from sqlalchemy import Connection, Executable
from sqlalchemy.dialects.postgresql import psycopg

from flask_chatstop.backends.database.statements import is_plain

_DIALECT = psycopg.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
_UNKNOWN_STATEMENT = "26000"
# Tells the statements of a connection from forgotten ones.
_numbers = itertools.count(1)


class Pipeline:
    """Two statements that are sent together.

    :param name: of both, by which the server keeps them. No other pipeline has it.
    :param change: stores something.
    :param cancellation: cancels listeners. It may fail or be lost without harm.
    """

    def __init__(self, name: str, change: Executable, cancellation: Executable) -> None:
        #: Where the pool's record of a connection has the number of what is prepared.
        self._key = f"chatstop_{name}"
        self._statements = (
            _Prepared(f"chatstop_{name}", change),
            _Prepared(f"chatstop_{name}_cancel", cancellation),
        )

    def can_run(self, connection: Connection) -> bool:
        """Return whether a connection is psycopg's, without a pooler in between."""
        if not is_plain(connection, "psycopg"):
            return False
        from psycopg import capabilities

        driver: Any = connection.connection.driver_connection
        return driver.prepare_threshold is not None and capabilities.has_pipeline()

    def execute(self, connection: Connection, params: Mapping[str, Any]) -> Any:
        """Return the change's result, as libpq has it."""
        while True:
            known = connection.info.pop(self._key, None)
            number = next(_numbers) if known is None else known
            results: list[Any] = []
            try:
                self._run(connection, params, number, known, results)
            except BaseException as error:
                # It was cut, or interrupted while it waited: the pool must not keep it.
                connection.invalidate()
                is_drivers = isinstance(error, connection.dialect.loaded_dbapi.Error)
                if not (is_drivers and results):
                    raise  # else the change is committed
            change, *cancellation = results
            failure = _error_of(change)
            if failure is None:
                break
            if known is None or failure.sqlstate != _UNKNOWN_STATEMENT:
                connection.info[self._key] = known
                raise failure
        if cancellation and _error_of(cancellation[0]) is None:
            connection.info[self._key] = number
        return change

    def _run(
        self,
        connection: Connection,
        params: Mapping[str, Any],
        number: int,
        known: int | None,
        results: list[Any],
    ) -> None:
        """Send both statements, and add the result of each as it comes."""
        driver: Any = connection.connection.driver_connection
        pgconn = driver.pgconn
        pgconn.enter_pipeline_mode()
        for statement in self._statements:
            name = b"%s_%d" % (statement.name, number)
            if known is None:
                pgconn.send_prepare(name, statement.sql)
            pgconn.send_query_prepared(name, statement.values(params))
            pgconn.pipeline_sync()
        driver.wait(_receive(pgconn, len(self._statements), results))
        pgconn.exit_pipeline_mode()


class _Prepared:
    def __init__(self, name: str, clause: Executable) -> None:
        compiled: Any = clause.compile(dialect=_DIALECT)  # type: ignore[attr-defined]
        self.name, self.sql = name.encode(), str(compiled).encode()
        self._names, self._params = compiled.positiontup or [], compiled.params

    def values(self, params: Mapping[str, Any]) -> list[bytes]:
        values = {**self._params, **params}
        return [_text(values[name]).encode() for name in self._names]


def _text(value: Any) -> str:
    return "\\x" + value.hex() if isinstance(value, bytes) else str(value)


def _receive(pgconn: Any, syncs: int, found: list[Any]) -> Generator[Any, Any, None]:
    """Send what is to be sent, and add the last result before each sync."""
    from psycopg.pq import ExecStatus
    from psycopg.waiting import WAIT_R, WAIT_RW

    while pgconn.flush():
        yield WAIT_RW
        pgconn.consume_input()
    last = None
    while len(found) < syncs:
        while pgconn.is_busy():
            yield WAIT_R
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:
            continue
        if result.status == ExecStatus.PIPELINE_SYNC:
            found.append(last)
        elif result.status != ExecStatus.PIPELINE_ABORTED:
            last = result


def _error_of(result: Any) -> Any:
    """Return the error that a result stands for, None for another one."""
    from psycopg.errors import error_from_result
    from psycopg.pq import ExecStatus

    if result.status != ExecStatus.FATAL_ERROR:
        return None
    return error_from_result(result, encoding="utf-8")

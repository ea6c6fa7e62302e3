"""A stop on PostgreSQL in one round trip, by libpq's pipeline mode.

The server gets two transactions at once, the stop and the cancellation of the listener.
It begins the second one when it has committed the first.
"""

import itertools
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Select
from sqlalchemy.dialects.postgresql import psycopg

from flask_chatstop.backends.database.statements import is_plain

_DIALECT = psycopg.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
_UNKNOWN_STATEMENT = "26000"
#: Where the pool's record of a connection has the number of its prepared statements.
_PREPARED = "chatstop_prepared"
# Tells one stop from the next, and the statements of a connection from forgotten ones.
_numbers = itertools.count(1)


class PipelinedStop:
    """Two statements that are sent together.

    :param stop: selects what a stop returns.
    :param cancellation: cancels the listener that the stop has noted in a setting of
        the session, under the token ``b_token``. A stop that failed has noted nothing.
    """

    def __init__(self, stop: Select[Any], cancellation: Select[Any]) -> None:
        self._statements = (
            _Prepared(b"chatstop_stop", stop),
            _Prepared(b"chatstop_cancel", cancellation),
        )

    def can_run(self, connection: Connection) -> bool:
        """Return whether a connection is psycopg's, without a pooler in between."""
        if not is_plain(connection, "psycopg"):
            return False
        from psycopg import capabilities

        driver: Any = connection.connection.driver_connection
        return driver.prepare_threshold is not None and capabilities.has_pipeline()

    def execute(
        self, connection: Connection, params: Mapping[str, str]
    ) -> Sequence[str | None] | None:
        """Return the row of the stop, None if there is none."""
        params = {**params, "b_token": str(next(_numbers))}
        while True:
            known = connection.info.pop(_PREPARED, None)
            number = next(_numbers) if known is None else known
            try:
                stop, cancellation = self._run(connection, params, number, known)
            except BaseException:
                # It was cut, or interrupted while it waited: the pool must not keep it.
                connection.invalidate()
                raise
            error = _error_of(stop)
            if error is None:
                break
            if known is None or error.sqlstate != _UNKNOWN_STATEMENT:
                connection.info[_PREPARED] = known
                raise error
        # A cancellation may fail without harm.
        if _error_of(cancellation) is None:
            connection.info[_PREPARED] = number
        if not stop.ntuples:
            return None
        values = [stop.get_value(0, column) for column in range(stop.nfields)]
        return [None if value is None else value.decode() for value in values]

    def _run(
        self,
        connection: Connection,
        params: Mapping[str, str],
        number: int,
        known: int | None,
    ) -> list[Any]:
        """Send both statements, and return the result of each."""
        driver: Any = connection.connection.driver_connection
        pgconn = driver.pgconn
        pgconn.enter_pipeline_mode()
        for statement in self._statements:
            name = b"%s_%d" % (statement.name, number)
            if known is None:
                pgconn.send_prepare(name, statement.sql)
            pgconn.send_query_prepared(name, statement.values(params))
            pgconn.pipeline_sync()
        results: list[Any] = driver.wait(_results(pgconn, len(self._statements)))
        pgconn.exit_pipeline_mode()
        return results


class _Prepared:
    def __init__(self, name: bytes, clause: Select[Any]) -> None:
        compiled = clause.compile(dialect=_DIALECT)
        self.name, self.sql = name, str(compiled).encode()
        self._names, self._params = compiled.positiontup or [], compiled.params

    def values(self, params: Mapping[str, str]) -> list[bytes]:
        values = {**self._params, **params}
        return [str(values[name]).encode() for name in self._names]


def _results(pgconn: Any, syncs: int) -> Generator[Any, Any, list[Any]]:
    """Send what is to be sent, and return the last result before each sync."""
    from psycopg.pq import ExecStatus
    from psycopg.waiting import WAIT_R, WAIT_RW

    while pgconn.flush():
        yield WAIT_RW
        pgconn.consume_input()
    found: list[Any] = []
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
    return found


def _error_of(result: Any) -> Any:
    """Return the error that a result stands for, None for another one."""
    from psycopg.errors import error_from_result
    from psycopg.pq import ExecStatus

    if result.status != ExecStatus.FATAL_ERROR:
        return None
    return error_from_result(result, encoding="utf-8")

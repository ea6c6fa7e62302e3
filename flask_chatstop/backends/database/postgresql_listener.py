"""How psycopg listens: a block sleeps, and who rings cancels it.

``LISTEN`` is not used. Up to PostgreSQL 18 each ``NOTIFY`` wakes every connection that
listens in the database, on whatever channel, and returns when all have been signalled.
"""

import time
from collections.abc import Collection
from typing import Any

from flask_chatstop.backends.database.base import ListenEnd, Listening
from flask_chatstop.backends.database.postgresql_connection import bounded, keep_alive
from flask_chatstop.backends.database.sleeping_query import (
    SLEEP,
    Sleeper,
    hear_rings,
    is_nameable,
)
from flask_chatstop.backends.database.sockets import can_read

#: What the application of a sleeping listener is named before its own name.
NAME_PREFIX = "chatstop "
_ASLEEP = "chatstop: asleep"
# The name of the application says that a cancellation will be caught: PostgreSQL would
# log an uncaught one as an error. A cancellation restores the name before. The message
# says the same to the listener. All workers send the same text, which counts as one in
# pg_stat_statements.
_BLOCK = """DO $chatstop$ BEGIN
    PERFORM set_config('application_name', current_setting('chatstop.worker'), true);
    RAISE INFO '{asleep}';
    PERFORM pg_sleep({seconds:g});
    PERFORM set_config('application_name', '', true);
EXCEPTION WHEN query_canceled THEN NULL;
END $chatstop$; EXECUTE chatstop_news"""
_QUERY_CANCELED = "57014"
#: Settings above which a statement of so many milliseconds is logged.
_LOGGING = "'log_min_duration_statement', 'log_min_duration_sample'"
_LOGGING += ", 'auto_explain.log_min_duration'"
_SET_UP = f"""SELECT pg_backend_pid(),
    set_config('chatstop.worker', %s, false),
    set_config('statement_timeout', '0', false),
    set_config('default_transaction_isolation', 'read committed', false),
    (SELECT min(setting::int) FROM pg_settings
        WHERE name IN ({_LOGGING}) AND setting::int > 0)"""
# Seconds; below it the poll costs less.
_SHORTEST = 0.25


def hear_cancellations(connection: Any, listening: Listening) -> ListenEnd:
    """Report news until ``closing`` is set.

    :param connection: of psycopg.
    """
    if not is_nameable(listening.name):
        return ListenEnd.UNABLE
    from psycopg import ClientCursor

    with bounded(connection, time.monotonic() + listening.timeout):
        keep_alive(connection)
        name = NAME_PREFIX + listening.name
        pid, *_, logged = connection.execute(_SET_UP, [name]).fetchone()
        if connection.info.server_version >= 170000:
            connection.execute("SET transaction_timeout = 0")
    # Sleeps are not to fill the server's log of slow statements.
    seconds = min(SLEEP, 0.0008 * logged) if logged else SLEEP
    # Behind a pooler, the process is another one than the connection's. To sleep there
    # would take a connection of the pool from those that need it.
    if pid != connection.info.backend_pid or seconds < _SHORTEST:
        return ListenEnd.UNABLE
    news = ClientCursor(connection).mogrify(*listening.news)
    with bounded(connection, time.monotonic() + listening.timeout):
        connection.execute(f"PREPARE chatstop_news AS {news}")
    block = _BLOCK.format(asleep=_ASLEEP, seconds=seconds)
    hear_rings(_SleepingBlock(connection, block, seconds, listening), listening)
    return ListenEnd.OVER


class _SleepingBlock(Sleeper):
    def __init__(
        self, connection: Any, block: str, seconds: float, listening: Listening
    ) -> None:
        self.seconds = seconds
        self._connection, self._pgconn = connection, connection.pgconn
        self._block, self._listening = block.encode(), listening
        self._is_asleep = False
        connection.add_notice_handler(self._note)

    def fall_asleep(self) -> None:
        self._is_asleep = False
        # libpq's own calls: psycopg's would wait for the result.
        self._pgconn.send_query(self._block)
        while self._pgconn.flush():
            can_read(self._connection, 0.001)
        deadline = time.monotonic() + self._listening.timeout
        while not self.is_awake(0.1) and not self._is_asleep:
            self._check(deadline)
        # Once for each sleep, and when it has begun: whoever rings it cancels it.
        self._listening.register(self._connection.info.backend_pid)

    def is_awake(self, seconds: float) -> bool:
        if self._pgconn.is_busy() and can_read(self._connection, seconds):
            self._listening.leave_to_parent()
            self._pgconn.consume_input()
        return not self._pgconn.is_busy()

    def wake_up(self) -> Collection[str]:
        from psycopg.pq import DiagnosticField, ExecStatus

        found: list[str] = []
        deadline = time.monotonic() + self._listening.timeout
        while True:
            while not self.is_awake(0.1):
                self._check(deadline)
            result = self._pgconn.get_result()
            if result is None:
                return found
            if result.status == ExecStatus.TUPLES_OK:
                rows = range(result.ntuples)
                found = [result.get_value(row, 0).decode() for row in rows]
            elif result.status == ExecStatus.FATAL_ERROR:
                state = result.error_field(DiagnosticField.SQLSTATE) or b""
                if state.decode() != _QUERY_CANCELED:
                    text = result.error_message.decode(errors="replace")
                    raise self._connection.OperationalError(text)

    def _note(self, diagnostic: Any) -> None:
        self._is_asleep |= diagnostic.message_primary == _ASLEEP

    def _check(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise self._connection.OperationalError("no answer in time")

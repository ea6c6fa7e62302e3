"""The connections of the driver that a backend opens."""

from collections import deque
from typing import Any

from pymysql.constants.COMMAND import COM_QUERY
from sqlalchemy import event

from flask_chatstop.backends.database import DatabaseBackend


def opened(backend: DatabaseBackend) -> list[Any]:
    """Return a list to which each connection is added that the backend opens."""
    connections: list[Any] = []

    def note(driver: Any, record: object) -> None:
        connections.append(driver)

    event.listen(backend.engine, "connect", note)
    return connections


def killed(backend: DatabaseBackend) -> list[str]:
    """Return a list to which each KILL is added that a server has carried out."""
    done: list[str] = []

    def note(driver: Any, record: object) -> None:
        execute, read = driver._execute_command, driver._read_query_result
        sent: deque[str] = deque()

        def execute_and_note(command: int, sql: str | bytes) -> None:
            if command == COM_QUERY:
                sent.append(sql.decode() if isinstance(sql, bytes) else sql)
            execute(command, sql)

        def read_and_note(*arguments: Any, **options: Any) -> None:
            statement = sent.popleft()
            read(*arguments, **options)
            if statement.startswith("KILL"):
                done.append(statement)

        driver._execute_command = execute_and_note
        driver._read_query_result = read_and_note

    event.listen(backend.engine, "connect", note)
    return done

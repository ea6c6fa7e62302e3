"""The connections of the driver that a backend opens."""

from typing import Any

from sqlalchemy import event

from flask_chatstop.backends.database import DatabaseBackend


def opened(backend: DatabaseBackend) -> list[Any]:
    """Return a list to which each connection is added that the backend opens."""
    connections: list[Any] = []

    def note(driver: Any, record: object) -> None:
        connections.append(driver)

    event.listen(backend.engine, "connect", note)
    return connections


def kills(connections: list[Any]) -> int:
    """Count what was killed by connections to MariaDB."""
    found = 0
    for connection in connections:
        with connection.cursor() as cursor:
            cursor.execute("SHOW SESSION STATUS LIKE 'Com_kill'")
            found += int(cursor.fetchone()[1])
    return found

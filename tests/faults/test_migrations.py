"""A migration of the table while a worker listens for notifications."""

from collections.abc import Iterator

import psycopg
import pytest

from flask_chatstop.testing import wait_until
from tests.support.servers.postgresql import PostgreSQLServer
from tests.support.worker_app import WorkerApp

#: Nothing is swept by the clock.
NEVER = 60.0
COLUMNS = ("task_id", "worker_id", "state")


@pytest.fixture
def database(own_postgresql: PostgreSQLServer) -> Iterator[psycopg.Connection]:
    with psycopg.connect(own_postgresql.url, autocommit=True) as connection:
        yield connection
        migrate(connection, 'varchar(255) COLLATE "C"')


def migrate(database: psycopg.Connection, kind: str) -> None:
    for column in COLUMNS:
        database.execute(
            f"ALTER TABLE chatstop_task ALTER COLUMN {column} TYPE {kind}".encode()
        )


def prepare_statements(app: WorkerApp) -> None:
    """Let psycopg prepare what a listener's first look asks: the plan is cached."""
    for _ in range(10):
        app.worker.backend.stops(app.worker.id, ["x"])


def listeners(database: psycopg.Connection) -> list[int]:
    found = database.execute(
        "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'chatstop %'"
    )
    return [pid for (pid,) in found]


def test_stops_are_heard_while_the_table_is_migrated(
    own_postgresql: PostgreSQLServer, database: psycopg.Connection
) -> None:
    app, elsewhere = (
        WorkerApp(own_postgresql.url, sweep_interval=NEVER) for _ in range(2)
    )
    for kind in ("text", "varchar(255)", "text"):
        chat = app.chat()
        prepare_statements(app)
        migrate(database, kind)
        assert elsewhere.can_stop(chat)
    for each in (app, elsewhere):
        each.close()


def test_a_listener_that_looks_first_after_a_migration_hears_the_next_stop(
    own_postgresql: PostgreSQLServer,
    database: psycopg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app, elsewhere = (
        WorkerApp(own_postgresql.url, sweep_interval=NEVER) for _ in range(2)
    )
    chat = app.chat()
    prepare_statements(app)
    found: list[int] = []

    def is_alone() -> bool:  # those of others are gone, and it sleeps just now
        found[:] = listeners(database)
        return len(found) == 1

    wait_until(is_alone)
    migrate(database, "text")
    database.execute("SELECT pg_terminate_backend(%s)", found)
    wait_until(lambda: "Found the doorbell" in caplog.text)
    # Its look has found the plan outdated, and has asked once more.
    assert caplog.text.count("Lost the doorbell") == 1
    assert elsewhere.can_stop(chat)
    for each in (app, elsewhere):
        each.close()

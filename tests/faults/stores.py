"""Stores of the tests' own, to be frozen and emptied, and whose rings are counted."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import psycopg
from sqlalchemy import text

from flask_chatstop.backends.database import DatabaseBackend
from tests.support.servers.mariadb import MariaDBServer
from tests.support.servers.postgresql import PostgreSQLServer
from tests.support.servers.redis import RedisServer

#: Gives how often somebody was rung until now.
Rings = Callable[[], int]
#: Rung by the counter itself.
LAST = "that was the last"


class Store(Protocol):
    """A server that serves one test at a time."""

    port: int
    url: str

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...

    def restart_empty(self) -> None: ...


class RingingStore(Store, Protocol):
    """One that pushes a stop to the worker of its task."""

    def rings(self, task_id: str) -> contextlib.AbstractContextManager[Rings]:
        """Count the rings for a task from now on."""
        ...


class RedisStore:
    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self.port = server.port
        self.url = server.url
        self.freeze = server.freeze
        self.thaw = server.thaw
        self.ask = server.ask

    def restart_empty(self) -> None:
        self._server.kill()
        self._server.start()

    @contextmanager
    def rings(self, task_id: str) -> Iterator[Rings]:
        with self._server.client() as client, client.pubsub() as pubsub:
            pubsub.psubscribe("*worker:*")
            assert pubsub.get_message(timeout=5)["type"] == "psubscribe"
            heard: list[str] = []

            def count() -> int:
                client.publish("worker:", LAST)  # comes after all that were rung
                while LAST not in heard:
                    heard.append(pubsub.get_message(timeout=10)["data"])
                heard.remove(LAST)
                return heard.count(task_id)

            yield count


class DatabaseStore:
    def __init__(self, server: PostgreSQLServer | MariaDBServer) -> None:
        self._server = server
        self.port = server.port
        self.url = server.url
        self.freeze = server.hang
        self.thaw = server.go_on
        self._empty()

    def restart_empty(self) -> None:
        self._server.stop()
        self._server.start()
        self._empty()

    def _empty(self) -> None:
        backend = DatabaseBackend(self.url)
        with backend.engine.connect() as connection:
            connection.execute(text("TRUNCATE TABLE chatstop_task"))
        backend.close()


_NOTE_RINGS = """
CREATE TABLE IF NOT EXISTS ring ();
TRUNCATE ring;
CREATE OR REPLACE FUNCTION note_ring() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    -- Not the one of a worker that rings itself.
    IF current_query() LIKE '%stopped%' THEN INSERT INTO ring DEFAULT VALUES; END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER note_ring AFTER UPDATE ON chatstop_task FOR EACH ROW
    WHEN (OLD.state = 'asleep' AND NEW.state = 'rung') EXECUTE FUNCTION note_ring();
"""


class PostgreSQLStore(DatabaseStore):
    @contextmanager
    def rings(self, task_id: str) -> Iterator[Rings]:
        with self._connect() as connection:
            connection.execute(_NOTE_RINGS)

            def count() -> int:
                [rung] = (
                    connection.execute("SELECT count(*) FROM ring").fetchone() or []
                )
                return int(rung)

            yield count
            connection.execute("DROP TRIGGER note_ring ON chatstop_task")

    def _connect(self) -> "psycopg.Connection[Any]":
        return psycopg.connect(self.url, autocommit=True)

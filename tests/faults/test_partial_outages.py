"""A store that does one thing and fails at another."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from flask_chatstop.testing import wait_until
from tests.support.worker_app import WorkerApp

#: As a proxy answers that has lost its server, and a count that no rollback undoes.
FAIL = """
CREATE SEQUENCE tries;
CREATE FUNCTION fail() RETURNS trigger AS $$ BEGIN
    PERFORM nextval('tries');
    RAISE EXCEPTION 'no server' USING ERRCODE = '08006';
END $$ LANGUAGE plpgsql;
CREATE TRIGGER fail BEFORE UPDATE ON chatstop_task FOR EACH ROW
    WHEN (NEW.state NOT IN ('running', 'stopping', 'purge')) EXECUTE FUNCTION fail();
"""
WORK = "DROP TRIGGER fail ON chatstop_task; DROP FUNCTION fail; DROP SEQUENCE tries"


@pytest.fixture
def database(postgresql_url: str) -> Iterator["psycopg.Connection[tuple[int]]"]:
    url = postgresql_url.replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@contextmanager
def failing_ends(database: "psycopg.Connection[tuple[int]]") -> Iterator[None]:
    database.execute(FAIL)
    try:
        yield
    finally:
        database.execute(WORK)


def lines(log: pytest.LogCaptureFixture) -> list[tuple[str, float]]:
    """Give what was lost and found, and when."""
    found = [(x.getMessage(), x.created) for x in log.records]
    return [(x[:4], at) for x, at in found if "the store of running tasks" in x]


def test_a_store_that_fails_at_ends_is_lost_once_and_found_once(
    postgresql_url: str,
    database: "psycopg.Connection[tuple[int]]",
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = WorkerApp(postgresql_url)
    running = app.chat()
    with failing_ends(database):
        app.chat(words=1)

        def tries() -> int:
            row = database.execute("SELECT last_value FROM tries").fetchone()
            return row[0] if row else 0

        wait_until(lambda: tries() >= 5)
        assert [x for x, _ in lines(caplog)] == ["Lost"]
    wait_until(lambda: len(lines(caplog)) > 1)
    assert [x for x, _ in lines(caplog)] == ["Lost", "Foun"]
    assert app.can_stop(running)
    app.close()


def test_a_store_that_is_lost_again_and_again_is_tried_ever_later(
    postgresql_url: str,
    database: "psycopg.Connection[tuple[int]]",
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = WorkerApp(postgresql_url, operation_timeout=0.05, sweep_interval=60)
    elsewhere = WorkerApp(postgresql_url)
    running, locked = app.chat(), elsewhere.chat()
    # A stop of this one takes too long, and everything else goes well.
    with database.transaction():
        query = "SELECT 1 FROM chatstop_task WHERE task_id = %s FOR UPDATE"
        database.execute(query, [locked.task_id])
        while len(lines(caplog)) < 10:
            assert app.stop(locked).status_code == 503
    words, times = zip(*lines(caplog)[:10], strict=True)
    assert words == ("Lost", "Foun") * 5
    pauses = [found - lost for lost, found in zip(times[::2], times[1::2], strict=True)]
    assert all(pause > 0.045 * 2**n for n, pause in enumerate(pauses, 1)), pauses
    assert elsewhere.can_stop(locked)
    wait_until(lambda: app.can_stop(running))
    elsewhere.close()
    app.close()

"""The protocol of stops as a model: whatever happens, a promised stop comes."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.support.breakable_stores import (
    DatabaseStore,
    MemoryStore,
    RedisStore,
    SQLiteStore,
)
from tests.support.protocol import Protocol
from tests.support.servers.redis import RedisServer


def check(store: MemoryStore, examples: int) -> None:
    machine = type("Machine", (Protocol,), {"store": store})
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=40,
                deadline=None,
                database=None,
                # What is missed is waited for, too long to look for shorter ways.
                phases=[Phase.generate],
                report_multiple_bugs=False,
                # What it prints makes a failure of a CI run happen again.
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        store.close()


def test_in_memory_every_promised_stop_comes() -> None:
    check(MemoryStore(), 60)


def test_with_sqlite_every_promised_stop_comes(tmp_path: Path) -> None:
    check(SQLiteStore(str(tmp_path / "chatstop.db")), 5)


@pytest.mark.parametrize(
    ("fixture", "port"), [("postgresql_url", 5432), ("mariadb_url", 3306)]
)
def test_with_a_database_every_promised_stop_comes(
    fixture: str, port: int, request: pytest.FixtureRequest
) -> None:
    check(DatabaseStore(request.getfixturevalue(fixture), port), 8)


def test_with_redis_every_promised_stop_comes(server: RedisServer) -> None:
    check(RedisStore(server), 12)

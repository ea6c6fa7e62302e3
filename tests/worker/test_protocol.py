"""The protocol of stops as a model: whatever happens, a promised stop comes.

``CHATSTOP_PROTOCOL_RUNS`` is how often the model runs on each store, and
``CHATSTOP_PROTOCOL_OPERATIONS`` how many random operations it does there at least.
"""

import os
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.support.breakable_stores import (
    MariaDBStore,
    MemoryStore,
    PostgreSQLStore,
    RedisStore,
    SQLiteStore,
)
from tests.support.protocol import Protocol
from tests.support.servers.mariadb import MariaDBServer
from tests.support.servers.redis import RedisServer

RUNS = int(os.environ.get("CHATSTOP_PROTOCOL_RUNS", "1"))
OPERATIONS = int(os.environ.get("CHATSTOP_PROTOCOL_OPERATIONS", "0"))


def check(store: MemoryStore, examples: int) -> None:
    machine = type("Machine", (Protocol,), {"store": store})
    before, runs, done = Protocol.operations, 0, 0
    try:
        while runs < RUNS or done < OPERATIONS:
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
            runs, done = runs + 1, Protocol.operations - before
            print(f"{type(store).__name__}: {runs} runs, {done} operations", flush=True)
    finally:
        store.close()


def test_in_memory_every_promised_stop_comes() -> None:
    check(MemoryStore(), 40)


def test_with_sqlite_every_promised_stop_comes(tmp_path: Path) -> None:
    check(SQLiteStore(str(tmp_path / "chatstop.db")), 5)


def test_with_postgresql_every_promised_stop_comes(postgresql_url: str) -> None:
    check(PostgreSQLStore(postgresql_url, 5432), 8)


def test_with_mariadb_every_promised_stop_comes(own_mariadb: MariaDBServer) -> None:
    check(MariaDBStore(own_mariadb.url, 3306), 8)


def test_with_redis_every_promised_stop_comes(server: RedisServer) -> None:
    check(RedisStore(server), 12)

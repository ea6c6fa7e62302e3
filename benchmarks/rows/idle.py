"""What a worker costs that has nothing to do, and one whose tasks are all silent."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine, text

from benchmarks.support.processes import wake_ups
from benchmarks.support.report import Figure, Row, at_most
from tests.support.servers.database_fixtures import running
from tests.support.servers.mariadb import MariaDBServer
from tests.support.servers.postgresql import PostgreSQLServer
from tests.support.servers.redis import RedisServer

HOW = """
A process has run a task, which has ended, and waits for a line at its standard input.
**Queries** are counted at the store, a server that nobody else uses: the calls in
`pg_stat_statements`, MariaDB's `Questions`, Redis's `commandstats` without what scripts
call inside of Redis, and for SQLite the trace of every connection, `PRAGMA` included.
**Wake-ups** are the context switches of all threads of the process, as Linux counts
them. They are counted for {idle:g} s, from {settling:g} s after the end of the task on:
by then its end is reported, and the threads of the worker have ended. Then {tasks:,}
silent tasks run in it, with the default configuration: each is renewed every 20 s and
swept every 5 s, so that the {running:g} s that are counted have one renewal and four
sweeps.
"""
TASKS = 10_000
SETTLING, IDLE, RUNNING = 2.0, 15.0, 20.0
#: A second, for the queries of so many tasks.
LIMIT = 4.5


@dataclass(frozen=True, slots=True)
class Rates:
    """Queries and wake-ups a second."""

    queries: float
    wake_ups: float


class Worker:
    """The process, and what it has cost so far."""

    def __init__(self, url: str, queries: Callable[[], int] | None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.apps.idle", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._queries = queries or (lambda: self.tell("statements"))

    def tell(self, line: str) -> int:
        """Have a line obeyed; give the number of statements to a SQLite file."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def rates(self, seconds: float) -> Rates:
        """Count for so long."""
        queries = self._queries()
        time.sleep(0.1)  # for what the counting has woken
        began = time.monotonic()
        woken = wake_ups(self._process.pid, seconds)
        took = time.monotonic() - began
        return Rates((self._queries() - queries) / took, woken / took)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def memory(folder: Path) -> Iterator[tuple[str, Callable[[], int]]]:
    """Give the URL of a store, and what counts the queries to it."""
    yield "memory://", lambda: 0


@contextmanager
def sqlite(folder: Path) -> Iterator[tuple[str, None]]:
    """Give the URL of a file, whose statements the process counts itself."""
    yield f"sqlite:///{folder}/chatstop.db", None


@contextmanager
def postgresql(folder: Path) -> Iterator[tuple[str, Callable[[], int]]]:
    """Run a server that counts statements."""
    server = PostgreSQLServer("shared_preload_libraries=pg_stat_statements")
    with contextmanager(running)(server):
        engine = create_engine(server.url.replace("postgresql:", "postgresql+psycopg:"))
        with engine.connect() as connection:
            connection.execute(text("CREATE EXTENSION pg_stat_statements"))
            connection.commit()

        def count() -> int:
            query = "SELECT sum(calls) FROM pg_stat_statements"
            query += " WHERE query NOT LIKE '%pg_stat_statements%'"
            query += " AND query NOT IN ('BEGIN', 'ROLLBACK')"
            with engine.connect() as connection:
                return int(connection.execute(text(query)).scalar_one())

        yield server.url, count
        engine.dispose()


@contextmanager
def mariadb(folder: Path) -> Iterator[tuple[str, Callable[[], int]]]:
    """Run a server that counts statements."""
    server, asked = MariaDBServer(), 0
    with contextmanager(running)(server):
        engine = create_engine(server.url, isolation_level="AUTOCOMMIT")
        connection = engine.connect()

        def count() -> int:
            nonlocal asked
            asked += 1
            status = text("SHOW GLOBAL STATUS LIKE 'Questions'")
            return int(connection.execute(status).one()[1]) - asked

        yield server.url, count
        connection.close()
        engine.dispose()


@contextmanager
def redis(folder: Path) -> Iterator[tuple[str, Callable[[], int]]]:
    """Run a server that counts commands."""
    server = RedisServer(folder)
    try:
        yield server.url, server.commands
    finally:
        server.kill()


STORES = {
    "memory": memory,
    "SQLite": sqlite,
    "PostgreSQL": postgresql,
    "MariaDB": mariadb,
    "Redis": redis,
}


def measure_store(name: str, is_quick: bool) -> Iterator[Figure]:
    """Measure one store."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url, queries = stack.enter_context(STORES[name](folder))
        settling = 0.1 if is_quick else SETTLING
        worker = Worker(url, queries)
        stack.callback(worker.close)
        worker.tell("begin 1")
        time.sleep(settling)  # the listener listens, and has begun its rests
        worker.tell("end")
        time.sleep(settling)
        idle = worker.rates(1.0 if is_quick else IDLE)
        yield Figure(
            what=f"{name}, no task runs any more",
            ours=describe(idle),
            **at_most(idle.queries + idle.wake_ups, 0),
        )
        tasks = 10 if is_quick else TASKS
        worker.tell(f"begin {tasks}")
        time.sleep(0.0 if is_quick else RUNNING)  # into an ordinary turn
        busy = worker.rates(1.0 if is_quick else RUNNING)
        yield Figure(
            what=f"{name}, {tasks:,} silent tasks",
            ours=describe(busy),
            **at_most(busy.queries, LIMIT, " queries a second"),
        )


def describe(rates: Rates) -> str:
    """Give both as text."""
    return f"{rates.queries:.2f} queries and {rates.wake_ups:.2f} wake-ups a second"


def measure(quick: bool = False) -> Row:
    """Measure every store."""
    return Row(
        name="idle",
        title="What a worker costs that has nothing to do",
        how=HOW.format(tasks=TASKS, settling=SETTLING, idle=IDLE, running=RUNNING),
        figures=[f for name in STORES for f in measure_store(name, quick)],
    )

"""What 100,000 running tasks in the table cost a stop.

Two databases of a kind, one with few tasks and one with 100,000 more, are asked in
turns to stop tasks of theirs. Run it with
``python -m benchmarks.table_size [URL ...]``.
"""

import argparse
import random
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy import create_engine, make_url, text

from flask_chatstop import StopOutcome
from flask_chatstop.backends.database import DatabaseBackend
from flask_chatstop.testing import ALICE, new_record, new_worker

MANY = 100_000
#: Stops of each database, each of a task of its own; as many tasks are few.
ROUNDS = 1_000
WARM_UP = 100
#: Tasks of one worker; they are announced together.
TASKS = 1_000


@contextmanager
def database(url: str, folder: Path) -> Iterator[DatabaseBackend]:
    """Make a database of its own where a URL leads, and drop it in the end."""
    name, server = f"chatstop_{uuid.uuid4().hex}", make_url(url)
    if server.get_backend_name() == "sqlite":
        own = server.set(database=str(folder / name))
    else:
        own = server.set(database=name)
        run(url, f"CREATE DATABASE {name}")
    backend = DatabaseBackend(own, lease=3600.0, timeout=30.0)
    try:
        backend.create_table()
        yield backend
    finally:
        backend.close()
        if own.get_backend_name() != "sqlite":
            run(url, f"DROP DATABASE {name}")


def run(url: str, statement: str) -> None:
    """Run a statement outside of a transaction."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


def fill(backend: DatabaseBackend, number: int) -> list[str]:
    """Let so many tasks run, and give their ids in no order."""
    task_ids: list[str] = []
    while len(task_ids) < number:
        worker_id = new_worker()
        count = min(TASKS, number - len(task_ids))
        records = [new_record(worker_id=worker_id) for _ in range(count)]
        backend.renew(records)
        task_ids += [record.task_id for record in records]
    random.shuffle(task_ids)
    return task_ids


def stop(backend: DatabaseBackend, task_id: str) -> float:
    """Give the seconds that a stop takes."""
    start = time.perf_counter()
    outcome = backend.stop(task_id, ALICE)
    took = time.perf_counter() - start
    assert outcome is StopOutcome.STOPPING
    return took


def measure(url: str) -> None:
    """Measure one kind of database, and print a line."""
    number = WARM_UP + ROUNDS
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        few, many = (stack.enter_context(database(url, folder)) for _ in range(2))
        sides = [(few, fill(few, number)), (many, fill(many, number + MANY))]
        times: dict[DatabaseBackend, list[float]] = {few: [], many: []}
        for turn in range(number):
            # Each as often the first of the two.
            for backend, task_ids in sides[:: 1 if turn % 2 else -1]:
                times[backend].append(stop(backend, task_ids[turn]))
    report(
        make_url(url).get_backend_name(), times[few][WARM_UP:], times[many][WARM_UP:]
    )


def report(name: str, few: list[float], many: list[float]) -> None:
    """Print what was measured, in milliseconds and as a ratio."""
    before, after = (1000 * statistics.median(times) for times in (few, many))
    p99s = [1000 * sorted(times)[int(0.99 * ROUNDS)] for times in (few, many)]
    print(
        f"{name}: stop among {WARM_UP + ROUNDS:,} tasks {before:.3f} ms"
        f" (p99 {p99s[0]:.3f} ms); among {MANY:,} more {after:.3f} ms"
        f" (p99 {p99s[1]:.3f} ms); ratio {after / before:.2f}",
        flush=True,
    )


def main() -> None:
    """Measure every database that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "urls",
        nargs="*",
        default=[
            "sqlite://",
            "postgresql+psycopg://postgres@127.0.0.1/test",
            "mysql+pymysql://root@127.0.0.1/test",
        ],
    )
    for url in parser.parse_args().urls:
        measure(url)


if __name__ == "__main__":
    main()

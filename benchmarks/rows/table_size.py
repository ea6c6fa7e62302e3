"""What 100,000 more tasks in the table of a database cost a stop."""

import random
import statistics
import time
from contextlib import ExitStack

from benchmarks.support.report import Figure, Row, at_most
from benchmarks.support.stores import DATABASES, store
from flask_chatstop import StopOutcome
from flask_chatstop.backends.database import DatabaseBackend
from flask_chatstop.testing import ALICE, new_record, new_worker

HOW = """
Two databases of a kind, one with 1,100 running tasks and one with 100,000 more, are
asked in turns to stop tasks of theirs: by the backend's `stop`, without HTTP.
"""
MANY = 100_000
#: Stops of each database, each of a task of its own.
ROUNDS = 1_000
WARM_UP = 100
#: Tasks of one worker; they are announced together.
TASKS = 1_000
#: Of the time with few tasks, what a stop may take with many.
LIMIT = 1.2


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


def compare(name: str, rounds: int, many: int) -> Figure:
    """Measure one kind of database, with few tasks and with many."""
    with ExitStack() as stack:
        sides = []
        for more in (0, many):
            url = stack.enter_context(store(name))
            backend = DatabaseBackend(url, lease=3600.0, timeout=30.0)
            stack.callback(backend.close)
            task_ids = fill(backend, WARM_UP + rounds + more)
            sides.append((backend, task_ids, list[float]()))
        for turn in range(WARM_UP + rounds):
            # Each as often the first of the two.
            for backend, task_ids, times in sides[:: 1 if turn % 2 else -1]:
                times.append(stop(backend, task_ids[turn]))
    before, after = (1000 * statistics.median(s[2][WARM_UP:]) for s in sides)
    return Figure(
        what=f"{name}: stop among {many:,} more tasks",
        ours=f"{after:.3f} ms",
        beside=f"without them {before:.3f} ms",
        ratio=after / before,
        **at_most(after / before, LIMIT),
    )


def measure(quick: bool = False) -> Row:
    """Measure every kind of database."""
    rounds, many = (50, 2_000) if quick else (ROUNDS, MANY)
    return Row(
        name="table_size",
        title="What a full table costs a stop",
        how=HOW,
        figures=[compare(name, rounds, many) for name in DATABASES],
    )

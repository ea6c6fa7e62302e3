"""What a backend from two methods costs beside the package's own on the same store.

``python -m benchmarks.rows.simple_backend`` prints the table of
docs/writing-a-backend.md: round trips and time of each call, and the times as ratios to
the package's own.
"""

import argparse
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from redis import Connection

from flask_chatstop import EndReason, StopBackend
from flask_chatstop.backends import RedisBackend
from flask_chatstop.backends.database import DatabaseBackend
from flask_chatstop.testing import ALICE, new_record
from tests.support.servers.redis_fixtures import REDIS_URL
from tests.support.simple_stores import WatchBackend, file_backend

OTHERS = 100


@dataclass
class Cost:
    """The cost of one call: round trips, where they can be counted, and seconds."""

    round_trips: float
    seconds: float


@contextmanager
def counted() -> Iterator[Callable[[], int]]:
    """Count the times that a client of redis-py waits for the server."""
    sent = 0
    send_packed: Any = Connection.send_packed_command

    def send_packed_command(self: Any, *args: Any, **options: Any) -> Any:
        nonlocal sent
        sent += 1
        return send_packed(self, *args, **options)

    Connection.send_packed_command = send_packed_command  # type: ignore[method-assign]
    try:
        yield lambda: sent
    finally:
        Connection.send_packed_command = send_packed  # type: ignore[method-assign]


def costs_of(
    backends: dict[str, StopBackend], rounds: int
) -> dict[str, dict[str, Cost]]:
    """Measure every call on each backend, in turns, beside other running tasks."""
    worker = new_record().worker_id
    for backend in backends.values():
        for _ in range(OTHERS):
            backend.announce(new_record(worker_id=worker))
    seconds: dict[tuple[str, str], list[float]] = {}
    trips: dict[tuple[str, str], int] = {}
    with counted() as sent:
        for _ in range(rounds):
            for name, backend in backends.items():
                for call, run in calls(backend):
                    before, began = sent(), time.perf_counter()
                    run()
                    took = time.perf_counter() - began
                    seconds.setdefault((name, call), []).append(took)
                    trips[name, call] = trips.get((name, call), 0) + sent() - before
    found: dict[str, dict[str, Cost]] = {}
    for (name, call), all_seconds in seconds.items():
        cost = Cost(trips[name, call] / rounds, statistics.median(all_seconds))
        found.setdefault(call, {})[name] = cost
    return found


def calls(backend: StopBackend) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the calls of one task's life."""
    record = new_record()
    yield "announce", lambda: backend.announce(record)
    yield "renew", lambda: backend.renew([record])
    yield "stop", lambda: backend.stop(record.task_id, ALICE)
    yield "stops", lambda: backend.stops(record.worker_id, [record.task_id])
    yield "end", lambda: backend.end(record, EndReason.STOPPED)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=500)
    rounds = parser.parse_args().rounds
    prefix = f"bench-{uuid.uuid4().hex}:"
    with tempfile.TemporaryDirectory() as folder:
        stores: dict[str, dict[str, StopBackend]] = {
            "SQLite": {
                "own": DatabaseBackend(f"sqlite:///{folder}/own.db"),
                "simple": file_backend(Path(folder, "simple.db")),
            },
            "Redis": {
                "own": RedisBackend(REDIS_URL, prefix=f"{prefix}own:"),
                "simple": WatchBackend(REDIS_URL, prefix=f"{prefix}simple:"),
            },
        }
        print("| store | call | round trips | statements | two methods | ratio |")
        print("|---|---|---|---|---|---|")
        for store, backends in stores.items():
            for call, costs in costs_of(backends, rounds).items():
                own, simple = costs["own"], costs["simple"]
                trips = f"{own.round_trips:.0f} and {simple.round_trips:.0f}"
                print(
                    f"| {store} | `{call}` | {trips if store == 'Redis' else ''}"
                    f" | {1e6 * own.seconds:.0f} µs | {1e6 * simple.seconds:.0f} µs"
                    f" | {simple.seconds / own.seconds:.1f} |"
                )
            for backend in backends.values():
                backend.close()
    client = redis.Redis.from_url(REDIS_URL)
    for key in client.scan_iter(f"{prefix}*"):
        client.delete(key)
    client.close()


if __name__ == "__main__":
    main()

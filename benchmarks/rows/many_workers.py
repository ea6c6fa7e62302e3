"""What 1,000 workers that listen on one store cost a stop."""

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import (
    AbstractContextManager,
    ExitStack,
    closing,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.support.crowd import Crowd, crowd, open_backend
from benchmarks.support.neighbour import LISTENERS, NOTIFIES, neighbour
from benchmarks.support.processes import children, cpu
from benchmarks.support.report import Figure, Row, at_most
from benchmarks.support.stops import median, p99, wait_at_random
from flask_chatstop import EndReason, StopBackend
from flask_chatstop.testing import ALICE, new_record, wait_until
from tests.support.servers.database_fixtures import running
from tests.support.servers.mariadb import MariaDBServer
from tests.support.servers.postgresql import PostgreSQLServer
from tests.support.servers.redis import RedisServer

HOW = f"""
Each worker listens by the backend's `listen`, in a thread of one of four processes, and
has a task that runs. Stops of fresh tasks, of one worker after the other, go through
the backend's `stop`, without HTTP, after random pauses. In turns with it, the same with
one worker, on a server of its own. Measured: from the call to the moment that the
worker hears of it, and the CPU time of the server's processes. While nothing is
stopped, workers poll and fall asleep again; what that takes is given for itself. It is
counted right before each stop too, and subtracted from what the stop takes. All
servers are begun for it: PostgreSQL without `fsync`, and MariaDB with
`innodb_flush_log_at_trx_commit=0`, so that no disk is measured.

With NOTIFYs: another application listens in the same PostgreSQL database, on
{LISTENERS} connections, and notifies them all {NOTIFIES} times a second. In turns with
it, the same workers and connections without the NOTIFYs.
"""
WORKERS = 1_000
ROUNDS = 400
#: Seconds that the servers are left alone, to see what they do by themselves.
REST = 5.0
PAUSE = 0.05
#: Seconds in which the CPU of a stop is counted, and before it that of none.
WINDOW = 0.02
#: Of the figure with one worker, what it may be with 1,000.
GOAL = 1.5


@dataclass(slots=True)
class Side:
    """Some workers on a server of their own.

    :param beside: what else goes on meanwhile.
    """

    backend: StopBackend
    crowd: Crowd
    pids: Callable[[], list[int]]
    beside: AbstractContextManager[object] = field(default_factory=nullcontext)
    heard: list[float] = field(default_factory=list)
    #: Seconds of the server's CPU: a second without stops, and by the stops.
    idle: float = 0.0
    busy: float = 0.0

    def rest(self, seconds: float) -> None:
        """Count what the server takes without stops."""
        with self.beside:
            self.idle = self._rate(seconds)

    def stop(self, turn: int) -> None:
        """Stop a task of one of the workers."""
        worker_id = self.crowd.workers[turn % len(self.crowd.workers)]
        record = new_record(worker_id=worker_id)
        self.crowd.begin(worker_id, record.task_id)
        self.backend.announce(record)
        with self.beside:
            wait_at_random(PAUSE)
            idle = self._rate(WINDOW)
            before, sent = self._cpu(), time.monotonic()
            self.backend.stop(record.task_id, ALICE)
            heard = self.crowd.heard(record.task_id) - sent
            time.sleep(max(0.0, sent + WINDOW - time.monotonic()))
            busy = self._cpu() - before - idle * (time.monotonic() - sent)
        self.backend.end(record, EndReason.STOPPED)
        if turn >= 0:  # else it warms up
            self.heard.append(heard)
            self.busy += busy

    def _rate(self, seconds: float) -> float:
        """Give the seconds of CPU that the server takes a second."""
        before, began = self._cpu(), time.monotonic()
        time.sleep(seconds)
        return (self._cpu() - before) / (time.monotonic() - began)

    def _cpu(self) -> float:
        """Give the seconds of CPU that the server has taken."""
        return sum(map(cpu, self.pids()))


@contextmanager
def redis(nodes: int) -> Iterator[tuple[str, Callable[[], list[int]]]]:
    """Run a server, or a cluster of several; give its URL and its processes."""
    options = ["--cluster-enabled", "yes"] if nodes > 1 else []
    with ExitStack() as stack:
        servers = []
        for _ in range(nodes):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            servers.append(RedisServer(Path(folder), *options))
            stack.callback(servers[-1].kill)
        pids = [int(server.client().info("server")["process_id"]) for server in servers]
        url = servers[0].url
        if nodes > 1:
            addresses = [f"127.0.0.1:{server.port}" for server in servers]
            command = ["redis-cli", "--cluster", "create", *addresses, "--cluster-yes"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            for server in servers:
                wait_until(lambda server=server: _is_ready(server), 30)  # type: ignore[misc]
            url = f"cluster://127.0.0.1:{servers[0].port}"
        yield url, lambda: pids


def _is_ready(server: RedisServer) -> bool:
    with server.client() as client:
        return bool(client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")


@contextmanager
def postgresql(workers: int) -> Iterator[tuple[str, Callable[[], list[int]]]]:
    """Run a server for so many workers; give its URL and its processes."""
    server = PostgreSQLServer(f"max_connections={workers + LISTENERS + 100}")
    with contextmanager(running)(server):
        pid = server.process.pid
        yield server.url, lambda: [pid, *children(pid)]


@contextmanager
def mariadb(workers: int) -> Iterator[tuple[str, Callable[[], list[int]]]]:
    """Run a server for so many workers; give its URL and its process."""
    server = MariaDBServer(f"--max-connections={workers + 100}")
    with contextmanager(running)(server):
        yield server.url, lambda: [server.process.pid]


STORES = {
    "Redis": lambda workers: redis(1),
    "Redis Cluster of 3": lambda workers: redis(3),
    "PostgreSQL": postgresql,
    "MariaDB": mariadb,
}


def compare(name: str, workers: int, rounds: int, rest: float) -> Iterator[Figure]:
    """Measure one store, with one worker and with many."""
    with ExitStack() as stack:
        sides = []
        for number in (1, workers):
            url, pids = stack.enter_context(STORES[name](number))
            backend = stack.enter_context(closing(open_backend(url)))
            people = stack.enter_context(crowd(url, number))
            sides.append(Side(backend, people, pids))
        one, many = sides
        if name == "PostgreSQL":
            notifying = stack.enter_context(neighbour(url))
            sides.append(replace(many, beside=notifying, heard=[]))
        for side in sides:
            side.rest(rest)
        for turn in range(-max(2, rounds // 10), rounds):
            for side in sides[:: 1 if turn % 2 else -1]:
                side.stop(turn)
        yield from figures(f"{name}, {workers:,} workers", many, "with one worker", one)
        for side in sides[2:]:
            what = f"{name}, {workers:,} workers, with NOTIFYs"
            yield from figures(what, side, "without", many)


def figures(name: str, side: Side, beside: str, other: Side) -> Iterator[Figure]:
    """Put two beside each other."""
    for words, give in (("median", median), ("p99", p99)):
        mine, theirs = give(side.heard), give(other.heard)
        yield Figure(
            what=f"{name}: stop to heard, {words}",
            ours=f"{mine:.2f} ms",
            beside=f"{beside} {theirs:.2f} ms",
            ratio=mine / theirs,
            **at_most(mine / theirs, GOAL),
        )
    mine, theirs = (1000 * each.busy / len(each.heard) for each in (side, other))
    yield Figure(
        what=f"{name}: server CPU a stop",
        ours=f"{mine:.2f} ms",
        beside=f"{beside} {theirs:.2f} ms",
        ratio=mine / theirs,
        **at_most(mine / theirs, GOAL),
    )
    yield Figure(
        what=f"{name}: server CPU without stops",
        ours=f"{100 * side.idle:.1f} % of a core",
        beside=f"{beside} {100 * other.idle:.2f} %",
    )


def measure(quick: bool = False) -> Row:
    """Measure every store that is a server."""
    workers, rounds, rest = (20, 5, 0.2) if quick else (WORKERS, ROUNDS, REST)
    return Row(
        name="many_workers",
        title="What 1,000 workers cost a stop",
        how=HOW,
        figures=[
            figure for name in STORES for figure in compare(name, workers, rounds, rest)
        ],
    )

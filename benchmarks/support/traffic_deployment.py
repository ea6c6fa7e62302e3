"""The servers of ``traffic``: two gunicorns, a model and a Redis that fails."""

import multiprocessing
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from pathlib import Path

import httpx

from benchmarks.support.processes import Holding, children, most
from benchmarks.support.traffic_load import Load, be_model, burst, drive
from flask_chatstop.backends.redis import RedisBackend
from tests.support.servers.gunicorn import Server, gunicorn
from tests.support.servers.redis import RedisServer

#: The threads of a worker. It takes as many connections and no more: they would wait
#: in it though another worker is free.
THREADS = 64
#: Seconds that Redis is away, and seconds to wait for what should be soon.
OUTAGE, SOON = 3.0, 30.0
_APP = "benchmarks.apps.traffic:create_app()"
_OPTIONS = [
    *("-k", "gthread", "--graceful-timeout", "30", "--threads", str(THREADS)),
    *("--worker-connections", str(THREADS + 1)),
]
_RECYCLED = ["--workers", "2", "--max-requests", "100", "--max-requests-jitter", "50"]
_TROUBLE = re.compile(r"Traceback|CRITICAL|TIMEOUT|\[ERROR\]")


@dataclass(frozen=True, slots=True)
class Idle:
    """What the processes hold while nothing runs; of each kind the most of one."""

    lasting: Holding
    recycled: Holding
    masters: Holding

    def is_within(self, other: "Idle") -> bool:
        """Tell whether no process has more than then."""
        return (
            self.lasting.is_within(other.lasting)
            and self.recycled.is_within(other.recycled)
            and self.masters.is_within(other.masters)
        )


@dataclass(frozen=True, slots=True)
class Faults:
    """What happens to Redis, in seconds since the load began.

    :param restarts: when it is killed.
    :param full: from when until when it has no memory for what is new.
    """

    restarts: Sequence[float]
    full: tuple[float, float]


@dataclass(slots=True)
class Deployment:
    """The running servers, and what is seen of them on the way.

    :param ends: the file that the workers append the end of each task to.
    :param samples: of the lasting worker, while the load runs.
    :param restarts: when Redis went.
    :param full: when Redis became full, and when it had room again.
    """

    redis: RedisServer
    lasting: Server
    recycled: Server
    ends: Path
    clients: ProcessPoolExecutor
    samples: list[tuple[float, Holding]] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)
    full: list[float] = field(default_factory=list)

    @property
    def urls(self) -> tuple[str, str]:
        """The addresses of both gunicorns."""
        return self.lasting.url, self.recycled.url

    def hold(self) -> Idle:
        """Look at the processes of both gunicorns."""
        masters = self.lasting.process.pid, self.recycled.process.pid
        lasting, recycled = map(children, masters)
        return Idle(most(lasting), most(recycled), most(masters))

    def warm_up(self) -> Idle:
        """Let every thread come into being, and a connection to Redis for each."""
        few = self.clients.submit(burst, self.urls, 4)
        try_for(SOON, self.ends_noted)
        # While Redis is silent each thread waits for it, that of the ends included.
        self.redis.freeze()
        many = self.clients.submit(burst, self.urls, 2 * THREADS)
        try_for(1.5, self._is_saturated)
        self.redis.thaw()
        few.result(SOON), many.result(SOON)
        try_for(SOON, self._is_idle)
        return self.hold()

    def _is_saturated(self) -> bool:
        idle = self.hold()
        # A thread has a client's connection and Redis's; our two have Redis's alone.
        fewest = min(idle.lasting.sockets, idle.recycled.sockets)
        return fewest >= 2 * THREADS + 3

    def _is_idle(self) -> bool:
        idle = self.hold()
        return max(idle.lasting.threads, idle.recycled.threads) <= THREADS + 1

    def run(self, rate: float, seconds: float, faults: Faults) -> Load:
        """Send the load, and let Redis fail at some moments of it."""
        began = time.monotonic()
        plan: list[tuple[float, Callable[[], None]]] = []
        for moment in faults.restarts:
            plan.append((began + moment, self._kill))
            plan.append((began + moment + OUTAGE, self.redis.start))
        for moment, maxmemory in zip(faults.full, ("1", "0"), strict=True):
            plan.append((began + moment, partial(self._limit, maxmemory)))
        plan.sort(key=itemgetter(0))
        running = self.clients.submit(drive, self.urls, rate, seconds)
        while wait([running], 1).not_done:
            if plan and time.monotonic() > plan[0][0]:
                plan.pop(0)[1]()
            # Not the recycled ones: on a busy machine there may be none for a moment.
            held = most(children(self.lasting.process.pid))
            self.samples.append((time.monotonic(), held))
        return running.result()

    def _kill(self) -> None:
        self.restarts.append(time.monotonic())
        self.redis.kill()

    def _limit(self, maxmemory: str) -> None:
        self.full.append(time.monotonic())
        self.redis.ask("CONFIG", "SET", "maxmemory", maxmemory)

    def rest(self, start: Idle) -> Idle:
        """Wait until nothing is held that was not at the start, but not for ever."""
        try_for(SOON, lambda: self.hold().is_within(start))
        return self.hold()

    def objects(self) -> int:
        """Count the Python objects of the lasting worker."""
        answer = httpx.get(f"{self.lasting.url}/objects", timeout=SOON)
        return int(answer.json()["objects"])

    def tasks_left(self) -> int:
        """Give the tasks that still run by what the store says, after a while."""
        backend = RedisBackend(self.redis.url)
        try_for(SOON, lambda: not backend.tasks())
        left = len(backend.tasks())
        backend.close()
        return left

    def ends_noted(self) -> dict[str, list[str]]:
        """Give the reasons that each task was said to have ended by."""
        noted: dict[str, list[str]] = {}
        for line in self.ends.read_text().splitlines():
            task_id, reason = line.split()
            noted.setdefault(task_id, []).append(reason)
        return noted

    def workers_replaced(self) -> int:
        """Give the number of workers that gunicorn has replaced."""
        return self.recycled.log.read_text().count("Autorestarting worker")

    def trouble(self) -> list[str]:
        """Give the lines of the servers' logs that nobody wants to see."""
        logs = self.lasting.log.read_text() + self.recycled.log.read_text()
        return [line for line in logs.splitlines() if _TROUBLE.search(line)]


def try_for(seconds: float, is_true: Callable[[], object]) -> None:
    """Wait until something is true, or so long; what is then is what is reported."""
    deadline = time.monotonic() + seconds
    while not is_true() and time.monotonic() < deadline:
        time.sleep(0.1)


@contextmanager
def model() -> Iterator[str]:
    """Run the model in a process of its own, and give its address."""
    processes = multiprocessing.get_context("spawn")
    here, there = processes.Pipe(duplex=False)
    process = processes.Process(target=be_model, args=(there,), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        process.kill()
        process.join()


@contextmanager
def deployment() -> Iterator[Deployment]:
    """Run all servers for the length of a with block."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = RedisServer(folder)
        stack.callback(redis.kill)
        (folder / "ends").touch()
        environ = {
            "FLASK_CHATSTOP_BACKEND": redis.url,
            "FLASK_TRAFFIC_MODEL": stack.enter_context(model()),
            "FLASK_TRAFFIC_ENDS": str(folder / "ends"),
        }
        lasting, recycled = (
            stack.enter_context(
                gunicorn(_APP, _made(folder / name), *_OPTIONS, *options, **environ)
            )
            for name, options in (("lasting", []), ("recycled", _RECYCLED))
        )
        clients = ProcessPoolExecutor(2, multiprocessing.get_context("spawn"))
        stack.enter_context(clients)
        yield Deployment(redis, lasting, recycled, folder / "ends", clients)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder

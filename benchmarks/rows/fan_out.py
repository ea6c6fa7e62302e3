"""How many messages a stop costs, as the workers that listen grow in number."""

import selectors
import tempfile
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from benchmarks.support.report import Figure, Row, at_most
from flask_chatstop import Owner, StopOutcome, TaskRecord
from flask_chatstop.backends.redis import RedisBackend
from tests.support.servers.redis import RedisServer

HOW = """
Each simulated worker is a connection to Redis that has subscribed to a channel of its
own, as `RedisBackend.listen` does; 1,000 stops go through the backend. Beside it, the
same number of connections on one channel for all, as it is commonly done: 100 stops are
published there, each of which is a message to every worker. Counted is what arrives.
"""
WORKERS = (1, 10, 100, 1_000)
STOPS = 1_000
#: Stops that are published to every worker.
SAMPLE = 100
OWNER = Owner("app", "service-api", "alice")
#: Seconds that everything may take before it is given up.
LIMIT = 120.0


@dataclass(slots=True)
class Result:
    """What so many stops have cost."""

    stops: int
    delivered: int
    misdelivered: int

    @property
    def messages(self) -> float:
        """Messages a stop."""
        return self.delivered / self.stops


class Crowd:
    """Connections that have subscribed, and a thread that counts what they hear."""

    def __init__(self, url: str, channels: list[str]) -> None:
        self.heard: Counter[tuple[str, str]] = Counter()
        self._selector = selectors.DefaultSelector()
        self._client = redis.Redis.from_url(
            url, protocol=2, decode_responses=True, max_connections=2 * len(channels)
        )
        self._closing = threading.Event()
        self._pubsubs = []
        for channel in channels:
            pubsub = self._client.pubsub()  # type: ignore[no-untyped-call]
            pubsub.subscribe(channel)
            assert (pubsub.get_message(timeout=5) or {})["type"] == "subscribe"
            self._selector.register(
                pubsub.connection._sock, selectors.EVENT_READ, pubsub
            )
            self._pubsubs.append(pubsub)
        self._thread = threading.Thread(target=self._count)
        self._thread.start()

    def wait_for(self, messages: int) -> None:
        """Wait until so many have come, and a moment for any too many."""
        deadline = time.monotonic() + LIMIT
        while self.heard.total() < messages:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.heard.total()} of {messages} messages came.")
            time.sleep(0.01)
        time.sleep(0.5)

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        for pubsub in self._pubsubs:
            pubsub.close()
        self._client.close()

    def _count(self) -> None:
        while not self._closing.is_set():
            for key, _ in self._selector.select(0.1):
                while message := key.data.get_message(timeout=0):
                    self.heard[message["channel"], message["data"]] += 1


def own_channels(url: str, workers: int, stops: int) -> Result:
    """Stop tasks of many workers through the backend."""
    prefix = f"fan-out-{uuid.uuid4().hex}:"
    backend = RedisBackend(url, prefix=prefix, lease=LIMIT)
    names = [f"worker-{number}" for number in range(workers)]
    records = [
        TaskRecord(f"task-{number}", OWNER, names[number % workers])
        for number in range(stops)
    ]
    for name in names:
        backend.renew([record for record in records if record.worker_id == name])
    crowd = Crowd(url, [f"{prefix}worker:{name}" for name in names])
    for record in records:
        assert backend.stop(record.task_id, OWNER) is StopOutcome.STOPPING
    crowd.wait_for(stops)
    right = {(f"{prefix}worker:{r.worker_id}", r.task_id) for r in records}
    wrong = sum(count for key, count in crowd.heard.items() if key not in right)
    repeated = sum(count - 1 for count in crowd.heard.values())
    crowd.close()
    backend.close()
    return Result(stops, crowd.heard.total(), wrong + repeated)


def one_channel(url: str, workers: int, stops: int) -> Result:
    """Publish stops to a channel that every worker hears."""
    channel = f"fan-out-{uuid.uuid4().hex}"
    crowd = Crowd(url, [channel] * workers)
    with redis.Redis.from_url(url) as client:
        for number in range(stops):
            client.publish(channel, f"task-{number}")
    crowd.wait_for(workers * stops)
    crowd.close()
    total = crowd.heard.total()
    return Result(stops, total, total - stops)


def compare(url: str, workers: int, stops: int) -> tuple[Result, Result]:
    """Measure with so many workers, on channels of their own and on one for all."""
    return own_channels(url, workers, stops), one_channel(url, workers, SAMPLE)


def figure(workers: int, own: Result, shared: Result) -> Figure:
    """Put the two beside each other."""
    return Figure(
        what=f"{workers:,} workers: messages a stop",
        ours=f"{own.messages:g} ({own.misdelivered} to others)",
        beside=f"one channel for all {shared.messages:,g}",
        ratio=own.messages / shared.messages,
        **at_most(own.messages + own.misdelivered, 1),
    )


def measure(quick: bool = False) -> Row:
    """Measure with more and more workers, on a Redis of its own."""
    sizes = WORKERS[:3] if quick else WORKERS
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        try:
            results = [compare(server.url, size, STOPS) for size in sizes]
        finally:
            server.kill()

    def draw(axes: Any) -> None:
        for side, label in enumerate(("a channel a worker", "one channel for all")):
            axes.plot(
                sizes, [pair[side].messages for pair in results], "o-", label=label
            )
        axes.set(xscale="log", yscale="log", xlabel="workers", ylabel="messages a stop")
        axes.legend()

    return Row(
        name="fan_out",
        title="Messages that a stop costs",
        how=HOW,
        figures=[
            figure(size, *pair) for size, pair in zip(sizes, results, strict=True)
        ],
        draw=draw,
    )

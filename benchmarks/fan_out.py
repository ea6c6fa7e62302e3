"""Count the messages that stops cost with a thousand workers listening.

Each simulated worker is a connection that has subscribed to a channel of its own, as
``RedisBackend.listen`` does. Beside it, the same number on one channel for all, which
is how it is commonly done: a sample of the stops is published there, since each of
them costs a message to every worker.

    python benchmarks/fan_out.py redis://127.0.0.1:6379/0
"""

import argparse
import selectors
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import redis

from flask_chatstop import Owner, StopOutcome, TaskRecord
from flask_chatstop.backends.redis import RedisBackend

OWNER = Owner("app", "service-api", "alice")
#: Seconds that everything may take before it is given up.
LIMIT = 120.0


@dataclass(slots=True)
class Result:
    """What so many stops have cost."""

    stops: int
    delivered: int
    misdelivered: int
    seconds: float
    server_seconds: float


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
                sys.exit(f"Only {self.heard.total()} of {messages} messages came.")
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
    backend = RedisBackend(url, prefix=prefix, lease=LIMIT, retention=1.0)
    names = [f"worker-{number}" for number in range(workers)]
    records = [
        TaskRecord(f"task-{number}", OWNER, names[number % workers])
        for number in range(stops)
    ]
    for name in names:
        backend.renew([record for record in records if record.worker_id == name])
    crowd = Crowd(url, [f"{prefix}worker:{name}" for name in names])

    def stop_all() -> None:
        for record in records:
            outcome = backend.stop(record.task_id, OWNER)
            assert outcome is StopOutcome.STOPPING
        crowd.wait_for(stops)

    seconds, server_seconds = timed(url, stop_all)
    right = {(f"{prefix}worker:{r.worker_id}", r.task_id) for r in records}
    wrong = sum(count for key, count in crowd.heard.items() if key not in right)
    repeated = sum(count - 1 for count in crowd.heard.values())
    crowd.close()
    with redis.Redis.from_url(url) as client:
        for record in records:
            client.delete(prefix + record.task_id)
    backend.close()
    return Result(stops, crowd.heard.total(), wrong + repeated, seconds, server_seconds)


def one_channel(url: str, workers: int, stops: int) -> Result:
    """Publish stops to a channel that every worker hears."""
    channel = f"fan-out-{uuid.uuid4().hex}"
    crowd = Crowd(url, [channel] * workers)

    def publish_all() -> None:
        with redis.Redis.from_url(url) as client:
            for number in range(stops):
                client.publish(channel, f"task-{number}")
        crowd.wait_for(workers * stops)

    seconds, server_seconds = timed(url, publish_all)
    crowd.close()
    total = crowd.heard.total()
    return Result(stops, total, total - stops, seconds, server_seconds)


def timed(url: str, act: Callable[[], None]) -> tuple[float, float]:
    """Give the seconds that it took, and those of the server's processor."""

    def server_seconds() -> float:
        with redis.Redis.from_url(url) as client:
            cpu = client.info("cpu")
        return float(cpu["used_cpu_sys"] + cpu["used_cpu_user"])

    began, server_began = time.monotonic(), server_seconds()
    act()
    # Without the moment that is waited for messages too many.
    return time.monotonic() - began - 0.5, server_seconds() - server_began


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("url", nargs="?", default="redis://127.0.0.1:6379/0")
    parser.add_argument("--workers", type=int, default=1_000)
    parser.add_argument("--stops", type=int, default=10_000)
    parser.add_argument("--sample", type=int, default=100)
    options = parser.parse_args()
    own = own_channels(options.url, options.workers, options.stops)
    shared = one_channel(options.url, options.workers, options.sample)
    print(f"{options.workers} workers, {options.stops} stops")
    print(
        f"{'':26}{'stops':>9}{'messages':>12}{'to others':>12}{'s':>9}{'server s':>10}"
    )
    for name, result in (
        ("a channel a worker", own),
        ("one for all, a sample", shared),
    ):
        print(
            f"{name:26}{result.stops:9}{result.delivered:12}{result.misdelivered:12}"
            f"{result.seconds:9.2f}{result.server_seconds:10.2f}"
        )
    scale = options.stops / options.sample
    print(
        f"{'one for all, computed':26}{options.stops:9}"
        f"{round(shared.delivered * scale):12}{round(shared.misdelivered * scale):12}"
        f"{shared.seconds * scale:9.2f}{shared.server_seconds * scale:10.2f}"
    )
    if own.delivered != options.stops or own.misdelivered:
        sys.exit("A stop did not wake its worker and no other.")


if __name__ == "__main__":
    main()

"""One raw hop of a bus between two processes: the floor that a doorbell stands on."""

import multiprocessing
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from benchmarks.support.stops import wait_at_random

_CHANNEL = "chatstop_hop"
#: A hop is measured by the monotonic clock, which all processes of a host share.
Listener = Callable[[str, Connection], None]
#: Takes the longest of random pauses before it, and gives the seconds of one.
Hop = Callable[[float], float]


def notify_listener(url: str, pipe: Connection) -> None:
    """Send the arrival time of each PostgreSQL notification."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"LISTEN {_CHANNEL}")
        pipe.send(0.0)
        for _ in connection.notifies():
            pipe.send(time.monotonic())


def redis_listener(url: str, pipe: Connection) -> None:
    """Send the arrival time of each Redis message."""
    import redis

    with redis.Redis.from_url(url).pubsub() as pubsub:  # type: ignore[no-untyped-call]
        pubsub.subscribe(_CHANNEL)
        for message in pubsub.listen():
            pipe.send(0.0 if message["type"] == "subscribe" else time.monotonic())


def datagram_listener(path: str, pipe: Connection) -> None:
    """Send the arrival time of each Unix datagram."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        pipe.send(0.0)
        while sock.recv(1024):
            pipe.send(time.monotonic())


@contextmanager
def bus(url: str) -> Iterator[Hop]:
    """Give a function that measures the seconds of one hop; none without a bus."""
    if url.startswith("redis"):
        import redis

        with (
            redis.Redis.from_url(url) as client,
            _hops(url, redis_listener, lambda: client.publish(_CHANNEL, "x")) as hop,
        ):
            yield hop
    elif url.startswith("postgresql"):
        import psycopg

        url = url.replace("+psycopg", "")
        with (
            psycopg.connect(url, autocommit=True) as connection,
            _hops(
                url, notify_listener, lambda: connection.execute(f"NOTIFY {_CHANNEL}")
            ) as hop,
        ):
            yield hop
    elif url.startswith("sqlite"):
        with (
            tempfile.TemporaryDirectory() as folder,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
        ):
            path = f"{folder}/hop"
            with _hops(path, datagram_listener, lambda: sock.sendto(b"x", path)) as hop:
                yield hop
    else:
        yield lambda _: 0.0


@contextmanager
def _hops(url: str, listener: Listener, ring: Callable[[], object]) -> Iterator[Hop]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=listener, args=(url, theirs), daemon=True
    )
    process.start()
    ours.recv()

    def hop(spread: float) -> float:
        wait_at_random(spread)
        sent = time.monotonic()
        ring()
        arrived: float = ours.recv()
        return arrived - sent

    try:
        yield hop
    finally:
        process.kill()
        process.join()

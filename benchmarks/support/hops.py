"""One raw hop of a bus between two processes: the floor that a doorbell stands on."""

import multiprocessing
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import urlsplit

from benchmarks.support.stops import wait_at_random

_CHANNEL = "chatstop_hop"
#: Seconds in which a listener is ready for the next hop.
_READY = 0.01
#: A hop is measured by the monotonic clock, which all processes of a host share.
Listener = Callable[[str, Connection], None]
#: Takes the longest of random pauses before it, and gives the seconds of one.
Hop = Callable[[float], float]


_BLOCK = """DO $$ BEGIN PERFORM pg_sleep(60);
EXCEPTION WHEN query_canceled THEN NULL; END $$"""


def cancelled_listener(url: str, pipe: Connection) -> None:
    """Send our number, and the time of each cancellation of a sleep on PostgreSQL."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        pipe.send(connection.info.backend_pid)
        while True:
            connection.execute(_BLOCK)
            pipe.send(time.monotonic())


def killed_listener(url: str, pipe: Connection) -> None:
    """Send our number, and the time of each kill of a wait on MariaDB."""
    import pymysql

    with _connect_to_mariadb(url) as connection, connection.cursor() as cursor:
        pipe.send(connection.thread_id())
        while True:
            with suppress(pymysql.err.OperationalError):  # it was interrupted
                cursor.execute("SELECT MASTER_GTID_WAIT('4294967295-1-1', 60)")
            pipe.send(time.monotonic())


def _connect_to_mariadb(url: str) -> Any:
    import pymysql

    place = urlsplit(url)
    return pymysql.connect(
        host=place.hostname,
        port=place.port or 3306,
        user=place.username,
        password=place.password or "",
        autocommit=True,
    )


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

        with redis.Redis.from_url(url) as client:

            def publish(_: int) -> object:
                return client.publish(_CHANNEL, "x")

            with _hops(url, redis_listener, publish) as hop:
                yield hop
    elif url.startswith("postgresql"):
        import psycopg

        url = url.replace("+psycopg", "")
        with psycopg.connect(url, autocommit=True) as connection:

            def cancel(number: int) -> object:
                return connection.execute("SELECT pg_cancel_backend(%s)", (number,))

            with _hops(url, cancelled_listener, cancel) as hop:
                yield hop
    elif url.startswith("mysql"):
        with _connect_to_mariadb(url) as connection, connection.cursor() as cursor:

            def kill(number: int) -> object:
                return cursor.execute(f"KILL QUERY {number}")

            with _hops(url, killed_listener, kill) as hop:
                yield hop
    elif url.startswith("sqlite"):
        with (
            tempfile.TemporaryDirectory() as folder,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
        ):
            path = f"{folder}/hop"

            def send(_: int) -> object:
                return sock.sendto(b"x", path)

            with _hops(path, datagram_listener, send) as hop:
                yield hop
    else:
        yield lambda _: 0.0


@contextmanager
def _hops(url: str, listener: Listener, ring: Callable[[int], object]) -> Iterator[Hop]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=listener, args=(url, theirs), daemon=True
    )
    process.start()
    number = int(ours.recv())

    def hop(spread: float) -> float:
        wait_at_random(spread)
        time.sleep(_READY)
        sent = time.monotonic()
        ring(number)
        arrived: float = ours.recv()
        return arrived - sent

    try:
        yield hop
    finally:
        process.kill()
        process.join()

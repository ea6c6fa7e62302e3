"""One raw hop of a bus between two processes: the floor that a doorbell stands on."""

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

#: A hop is measured by the monotonic clock, which all processes of a host share.
Listener = Callable[[str, Connection], None]


def notify_listener(url: str, pipe: Connection) -> None:
    """Send the arrival time of each PostgreSQL notification."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("LISTEN chatstop_hop")
        pipe.send(0.0)
        for _ in connection.notifies():
            pipe.send(time.monotonic())


def redis_listener(url: str, pipe: Connection) -> None:
    """Send the arrival time of each Redis message."""
    import redis

    with redis.Redis.from_url(url).pubsub() as pubsub:  # type: ignore[no-untyped-call]
        pubsub.subscribe("chatstop:hop")
        for message in pubsub.listen():
            pipe.send(0.0 if message["type"] == "subscribe" else time.monotonic())


def raw_hops(url: str, rounds: int) -> list[float]:
    """Measure the seconds from the sending of a message to its arrival elsewhere."""
    ring: Callable[[], object]
    listener: Listener
    if url.startswith("redis"):
        import redis

        client = redis.Redis.from_url(url)
        listener, ring = redis_listener, lambda: client.publish("chatstop:hop", "x")
    elif url.startswith("postgresql"):
        import psycopg

        url = url.replace("+psycopg", "")
        connection = psycopg.connect(url, autocommit=True)
        listener, ring = (
            notify_listener,
            lambda: connection.execute("NOTIFY chatstop_hop"),
        )
    else:
        return [0.0] * rounds
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=listener, args=(url, theirs), daemon=True
    )
    process.start()
    ours.recv()
    hops = []
    for _ in range(rounds):
        sent = time.monotonic()
        ring()
        hops.append(ours.recv() - sent)
        time.sleep(0.002)
    process.terminate()
    process.join()
    return hops

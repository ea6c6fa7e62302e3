"""Another application of a PostgreSQL database, which listens there and notifies."""

import multiprocessing
import selectors
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

#: Connections that listen.
LISTENERS = 100
#: A second, while it notifies.
NOTIFIES = 20
_CHANNEL = "neighbour"
#: Seconds that its connections may take to begin, and one NOTIFY to be heard by all.
_LIMIT = 60.0


class Neighbour:
    """Notifies for the length of a with block, and listens all the time."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def __enter__(self) -> None:
        self._pipe.send("notify")

    def __exit__(self, *_: object) -> None:
        self._pipe.send("be silent")
        assert self._pipe.poll(_LIMIT), "not all connections have heard a NOTIFY"
        self._pipe.recv()


@contextmanager
def neighbour(url: str) -> Iterator[Neighbour]:
    """Run one in a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_run, args=(url, theirs), daemon=True
    )
    process.start()
    try:
        assert ours.poll(_LIMIT), "the neighbour did not begin in time"
        ours.recv()
        yield Neighbour(ours)
    finally:
        process.kill()
        process.join()


def _run(url: str, pipe: Connection) -> None:
    import psycopg

    notifier, *listeners = (
        psycopg.connect(url, autocommit=True) for _ in range(1 + LISTENERS)
    )
    selector = selectors.DefaultSelector()
    for listener in listeners:
        listener.execute(f"LISTEN {_CHANNEL}")
        selector.register(listener, selectors.EVENT_READ, listener.pgconn)
    selector.register(pipe, selectors.EVENT_READ)
    pipe.send("it listens")
    while True:
        pipe.recv()
        _notify(notifier, selector, pipe)
        pipe.send("all have heard")


def _notify(notifier: Any, selector: selectors.BaseSelector, pipe: Connection) -> None:
    """Notify until we are told, and wait until all have heard it."""
    due_at, missing, is_over = 0.0, 0, False
    while not is_over or missing:
        if not is_over and time.monotonic() >= due_at:
            due_at = time.monotonic() + 1 / NOTIFIES
            notifier.execute(f"NOTIFY {_CHANNEL}")
            missing += LISTENERS
        pause = None if is_over else max(0.0, due_at - time.monotonic())
        for key, _ in selector.select(pause):
            if key.data is None:
                pipe.recv()
                is_over = True
            else:
                missing -= _heard(key.data)


def _heard(connection: Any) -> int:
    """Return how many notifications have arrived on a connection of libpq's."""
    connection.consume_input()
    count = 0
    while connection.notifies() is not None:
        count += 1
    return count

"""How a worker hears of stops, in the databases that can tell."""

import os
import select
import sqlite3
import threading
import time
from collections.abc import Callable, Collection
from typing import Any

from flask_chatstop.backends.database.dialects import CHANNEL_PREFIX
from flask_chatstop.backends.database.drivers import bounded, is_refused
from flask_chatstop.backends.database.postgresql import keep_alive

# SQLite must not be carried across a fork, see engine.py: a fork closes what watches.
_watching = threading.Lock()
_watchers: set[sqlite3.Connection] = set()

Heard = Callable[[Collection[str]], None]


def hear_notifications(
    driver: Any,
    worker_id: str,
    look: Callable[[], None],
    heard: Heard,
    closing: threading.Event,
    timeout: float,
) -> None:
    """Hear PostgreSQL's notifications to one worker until ``closing`` is set.

    :param driver: a connection of psycopg, for this alone.
    :param look: asks the table, for what came before the listening.
    """
    from psycopg.sql import SQL, Identifier

    with bounded(driver, time.monotonic() + timeout):
        keep_alive(driver)
        channel = Identifier(CHANNEL_PREFIX + worker_id)
        driver.execute(SQL("LISTEN {}").format(channel))
    look()
    # By libpq itself: psycopg's own generator of notifications is slower to wake.
    poll = select.poll()
    poll.register(driver.fileno(), select.POLLIN)
    while not closing.is_set():
        if poll.poll(1000 * min(timeout, 0.5)):
            driver.pgconn.consume_input()
            while notify := driver.pgconn.notifies():
                heard([notify.extra.decode()])


def watch_file(
    driver: sqlite3.Connection, look: Callable[[], None], closing: threading.Event
) -> None:
    """Look whenever another connection has written to a SQLite file.

    :param driver: a connection for this alone; what it writes itself goes unseen.
    """
    with _watching:
        _watchers.add(driver)
    try:
        _watch(driver, look, closing)
    finally:
        with _watching:
            _watchers.discard(driver)


def _watch(
    driver: sqlite3.Connection, look: Callable[[], None], closing: threading.Event
) -> None:
    seen = None
    while True:
        try:
            with _watching:
                if driver not in _watchers:
                    return  # closed by a fork: the keeper listens again
                version = driver.execute("PRAGMA data_version").fetchone()
        except sqlite3.OperationalError as error:
            if not is_refused(error):
                raise
            version = None
        if version is None or version != seen:
            seen = version
            look()
        if closing.wait(0.01):
            break


def _before_fork() -> None:
    _watching.acquire()
    while _watchers:
        _watchers.pop().close()


def _after_fork_in_child() -> None:
    global _watching
    _watching = threading.Lock()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=lambda: _watching.release(),
    after_in_child=_after_fork_in_child,
)

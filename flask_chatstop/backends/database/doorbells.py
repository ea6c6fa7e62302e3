"""How a worker hears of stops, in the databases that can tell."""

import sqlite3
import threading
import time
from collections.abc import Callable, Collection
from typing import Any

from flask_chatstop.backends.database.dialects import CHANNEL_PREFIX
from flask_chatstop.backends.database.drivers import bounded, is_refused
from flask_chatstop.backends.database.postgresql import keep_alive

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
    while not closing.is_set():
        for notify in driver.notifies(timeout=min(timeout, 0.5)):
            heard([notify.payload])


def watch_file(
    driver: sqlite3.Connection, look: Callable[[], None], closing: threading.Event
) -> None:
    """Look whenever another connection has written to a SQLite file.

    :param driver: a connection for this alone; what it writes itself goes unseen.
    """
    seen = None
    while True:
        try:
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

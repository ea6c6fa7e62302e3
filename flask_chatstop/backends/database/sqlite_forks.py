"""No SQLite connection is carried across a fork, used or unused.

SQLite finds the locks of a process in its memory, which the child inherits without the
locks: https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_
So a fork waits for the calls in progress and closes every connection.
"""

import os
import sqlite3
import threading
from typing import Protocol
from weakref import WeakSet

from flask_chatstop.forks import call_in_child


class File(Protocol):
    """A database that is a file."""

    def before_fork(self) -> None:
        """Close every connection, and let nobody open one until the fork is over."""

    def after_fork_in_parent(self) -> None:
        """Allow connections again."""

    def after_fork(self) -> None:
        """Leave every connection to the parent; called in the child."""


class Watchers:
    """The connections of listeners, each in use by its own thread."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.open: set[sqlite3.Connection] = set()

    def before_fork(self) -> None:
        """Close every connection, and hold the lock until the fork is over."""
        self.lock.acquire()
        while self.open:
            self.open.pop().close()

    def after_fork_in_parent(self) -> None:
        """Release the lock."""
        self.lock.release()

    def after_fork_in_child(self) -> None:
        """Replace the lock, which the parent holds."""
        self.lock = threading.Lock()


# State of the whole process, because a fork concerns every file that it has open.
files: WeakSet[File] = WeakSet()
watchers = Watchers()


# The order matters. Before a fork, the files come first: from then on nobody can open
# a connection, so a listener whose connection was closed cannot open another one until
# the fork is over. After the fork, the files come last.


def _before_fork() -> None:
    for file in list(files):
        file.before_fork()
    watchers.before_fork()


def _after_fork_in_parent() -> None:
    watchers.after_fork_in_parent()
    for file in list(files):
        file.after_fork_in_parent()


def _after_fork_in_child() -> None:
    watchers.after_fork_in_child()
    for file in list(files):
        file.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent)
call_in_child(_after_fork_in_child)

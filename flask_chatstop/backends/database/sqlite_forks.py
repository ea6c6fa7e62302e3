"""No SQLite connection is carried across a fork, used or unused.

SQLite finds the locks of a process in its memory, which the child inherits without the
locks: https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_
So a fork waits for the calls in progress and closes every connection.
"""

import atexit
import os
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


class Watcher(Protocol):
    """A listener, with a connection and a socket that its own thread uses."""

    def before_fork(self) -> None:
        """Close the connection."""

    def after_fork_in_parent(self) -> None:
        """Wake the thread, which connects again."""

    def after_fork_in_child(self) -> None:
        """Leave the socket to the parent."""

    def at_exit(self) -> None:
        """Leave no file of the socket behind."""


class Watchers:
    """The listeners of the process."""

    def __init__(self) -> None:
        #: Is held while a connection of a listener is used, and during a fork.
        self.lock = threading.Lock()
        self.open: set[Watcher] = set()
        #: Whether the process exits: a socket made now would be left behind.
        self.process_exits = False

    def before_fork(self) -> None:
        """Close every connection, and hold the lock until the fork is over."""
        self.lock.acquire()
        for watcher in self.open:
            watcher.before_fork()

    def after_fork_in_parent(self) -> None:
        """Release the lock."""
        for watcher in self.open:
            watcher.after_fork_in_parent()
        self.lock.release()

    def after_fork_in_child(self) -> None:
        """Replace the lock, which the parent holds."""
        for watcher in self.open:
            watcher.after_fork_in_child()
        self.open = set()
        self.lock = threading.Lock()

    def at_exit(self) -> None:
        """Leave no file of a socket behind: nobody waits for the threads."""
        with self.lock:
            self.process_exits = True
            for watcher in self.open:
                watcher.at_exit()


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
atexit.register(watchers.at_exit)

"""Under gevent, no call to a server is carried across a fork.

The greenlets of the parent go on in the child, with the same connections. Both would
read the answer of a call in progress, and neither would get all of it. So a fork waits
for such calls, and new ones wait for the fork.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

# Imported for its hooks. Before a fork, those that were registered last run first: this
# module's, which let other greenlets run, must come before SQLite's, which hold locks.
from flask_chatstop.backends.database import sqlite_forks  # noqa: F401
from flask_chatstop.forks import call_in_child
from flask_chatstop.greenlets import threads_are_greenlets

#: Seconds that a fork waits at most: a call in progress may hang, and gevent forks for
#: each process that it begins.
_LONGEST = 0.5
#: Seconds between two looks whether the others are done.
_PAUSE = 0.001


class Calls:
    """The calls in progress, by the greenlet that has made them."""

    def __init__(self) -> None:
        self._depths: Counter[int] = Counter()
        self._forks = 0

    @contextmanager
    def call(self) -> Iterator[None]:
        """Let a fork wait for the block, and the block for a fork."""
        if not threads_are_greenlets():
            yield
            return
        caller = threading.get_ident()
        if caller not in self._depths:
            self.wait_for_forks()
        self._depths[caller] += 1
        try:
            yield
        finally:
            self._depths[caller] -= 1
            if self._depths[caller] <= 0:
                del self._depths[caller]

    def wait_for_forks(self) -> None:
        """Wait until no fork waits: after it, this may be the child's copy."""
        while self._forks:
            time.sleep(_PAUSE)

    @contextmanager
    def nothing_is_read(self) -> Iterator[None]:
        """Let no fork wait for the block, which is in a call and only waits."""
        depth = self._depths.pop(threading.get_ident(), 0)
        try:
            yield
        finally:
            if depth:
                self.wait_for_forks()
                self._depths[threading.get_ident()] = depth

    def before_fork(self) -> None:
        """Wait for the calls of other greenlets, and let none begin."""
        self._forks += 1
        until = time.monotonic() + _LONGEST
        while self._depths.keys() - {threading.get_ident()}:
            if time.monotonic() > until:
                return
            time.sleep(_PAUSE)

    def after_fork_in_parent(self) -> None:
        """Let calls begin again."""
        # In a child that one greenlet has forked, another may fork that began before.
        self._forks = max(0, self._forks - 1)

    def after_fork_in_child(self) -> None:
        """Forget the calls, which are the parent's."""
        self._depths.clear()
        self._forks = 0


# State of the whole process, because a fork concerns all of its greenlets.
calls = Calls()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=calls.before_fork, after_in_parent=calls.after_fork_in_parent
    )
call_in_child(calls.after_fork_in_child)

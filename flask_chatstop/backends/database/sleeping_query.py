"""A doorbell for database servers: a query that sleeps until somebody interrupts it.

The listener keeps one query asleep on a connection of its own. A stop finds that
connection and interrupts the query, which wakes this one worker and no other. So does
who writes an answer that others follow. The ring says nothing but "look now", so the
listener then reads its news, on that connection.
"""

import abc
import re
import time
from collections.abc import Collection

from flask_chatstop.backends.database.base import Listening
from flask_chatstop.backends.database.greenlet_forks import calls
from flask_chatstop.errors import BackendError

#: Seconds of one sleep. It bounds how long the server keeps the query of a client that
#: has gone, and how long PostgreSQL keeps a snapshot.
SLEEP = 5.0
#: Seconds between two polls: while rings arrive, and unless it is known that they do.
TRUSTING, DOUBTING = 2.0, 0.1
#: Seconds between two looks at ``closing``.
_PATIENCE = 0.5
#: So many interruptions in a row that no news explain are the server's, by a limit on
#: the time of statements. Then there is a pause in seconds before the next sleep.
_UNEXPLAINED, _PAUSE = 3, 0.1
#: Seconds that the interpreter and the server are left to those who were woken.
_FOR_THE_WOKEN = 0.002
#: What the names on the server can hold, whatever the database.
_NAMEABLE = re.compile(r"[\w-]{1,50}", re.ASCII)


class Sleeper(abc.ABC):
    """The connection of a listener, and the query that sleeps on it."""

    #: Seconds of one sleep.
    seconds = SLEEP

    @abc.abstractmethod
    def fall_asleep(self) -> None:
        """Send the query, and return when a ring would interrupt it."""

    @abc.abstractmethod
    def is_awake(self, seconds: float) -> bool:
        """Wait for something to come, and return whether the query has ended."""

    def is_awake_within(self, seconds: float) -> bool:
        """Wait until the query has ended; return whether it has within the time.

        A part of its answer is no end: the connection would be closed too early.
        """
        until = time.monotonic() + seconds
        while not self.is_awake(max(0.0, until - time.monotonic())):
            if time.monotonic() >= until:
                return False
        return True

    @abc.abstractmethod
    def wake_up(self) -> Collection[str]:
        """Take the result of the query, which may have been interrupted.

        :returns: the news of the listener then.
        """


def is_nameable(name: str) -> bool:
    """Return whether a listener can be rung by its name."""
    return _NAMEABLE.fullmatch(name) is not None


def hear_rings(sleeper: Sleeper, listening: Listening) -> None:
    """Report news until the listening has to end.

    The order makes that no ring is missed: the query sleeps before the table is polled.
    What is too late for the poll finds the query asleep.
    """
    polls = _Polls(listening)
    begun = _sleep(sleeper, polls)
    # The listener rings itself as others do, to learn whether rings arrive.
    listening.ring()
    while not listening.is_over:
        with calls.nothing_is_read():
            is_awake = sleeper.is_awake(min(polls.interval, _PATIENCE))
            calls.wait_for_forks()  # or the copy would go on after the next line
            listening.leave_to_parent()
        if not is_awake:
            if time.monotonic() > begun + sleeper.seconds + listening.timeout:
                raise BackendError("The server has not ended a query in time.")
            polls.poll_if_due()
            continue
        found = sleeper.wake_up()
        was_rung = time.monotonic() < begun + 0.95 * sleeper.seconds
        polls.woken(found, was_rung=was_rung)
        if listening.is_over:
            return
        listening.closing.wait(_FOR_THE_WOKEN)
        begun = _sleep(sleeper, polls)
    # Left in its sleep, the query would be the server's until the sleep is over.
    listening.ring()
    if sleeper.is_awake_within(_PATIENCE):
        sleeper.wake_up()


def _sleep(sleeper: Sleeper, polls: "_Polls") -> float:
    """Fall asleep, then poll, and return when the sleep has begun."""
    sleeper.fall_asleep()
    begun = time.monotonic()
    polls.poll()
    return begun


class _Polls:
    """Polls the table after each ring, and now and then.

    It polls every 2 s while rings arrive. It polls every 100 ms from the moment that
    it finds news without a ring: some rings are sent through a proxy, or to another
    server of a cluster, where the query is not found.
    """

    def __init__(self, listening: Listening) -> None:
        self._listening = listening
        self._known: set[str] = set()
        self._has_rung = self._has_missed = self._may_have_missed = False
        self._unexplained = 0
        self._due_at = 0.0

    @property
    def interval(self) -> float:
        """Seconds between two polls."""
        is_trusted = self._has_rung and not self._has_missed
        return TRUSTING if is_trusted else DOUBTING

    def poll(self) -> bool:
        """Poll, and return whether there are news that were not known before."""
        return self._note(self._listening.poll())

    def poll_if_due(self) -> None:
        """Poll unless it is too early, and note whether rings do not arrive."""
        if time.monotonic() < self._due_at:
            return
        # The ring for what was found by the last poll had time to arrive since.
        self._has_missed |= self._may_have_missed
        self._may_have_missed = self.poll()

    def woken(self, found: Collection[str], *, was_rung: bool) -> None:
        """Report what was found on waking up, and note whether a ring has arrived."""
        self._listening.heard(found)
        self._note(found)
        if not was_rung:
            return
        self._has_rung, self._may_have_missed = True, False
        self._unexplained += 1
        if self._unexplained > _UNEXPLAINED:
            self._listening.closing.wait(_PAUSE)

    def _note(self, found: Collection[str]) -> bool:
        known = self._known.union(self._listening.known())
        self._known = set(found)
        self._due_at = time.monotonic() + self.interval
        is_new = not self._known <= known
        if is_new:
            self._unexplained = 0
        return is_new

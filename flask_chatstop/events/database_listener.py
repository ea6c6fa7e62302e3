"""How a process learns that a log in a database has more, for all who follow there.

One thread listens for all logs that are followed here and written elsewhere: by the
doorbell of the database, which who writes rings, or by polling where nobody can. It
begins with the first follower and ends soon after the last one.
"""

import math
import threading
import time
import uuid
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from flask_chatstop.backends.database.base import ListenEnd, Listening
from flask_chatstop.backends.database.engine import Database
from flask_chatstop.backends.database.followers import Followers
from flask_chatstop.backends.database.listeners import Listeners
from flask_chatstop.backends.database.news import News
from flask_chatstop.errors import BackendError
from flask_chatstop.events.database_queries import LogQueries
from flask_chatstop.events.followed import Followed, FollowedLogs
from flask_chatstop.events.records import END, Record
from flask_chatstop.worker.availability import Availability
from flask_chatstop.worker.loops import Loops

#: Seconds between two renewals of the rows that say what is followed. What nobody has
#: waited for since the last one is followed no more.
RENEWAL = 2.0
#: Seconds that such a row is good for.
LEASE = 5 * RENEWAL
#: Seconds between two polls without a doorbell: the first and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.1
#: Seconds after which a log that is newly followed is looked at again.
_AGAIN = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class _Listener:
    """Who listens, from the first follower to the last.

    :param has_returned: is not set while the thread listens or polls.
    """

    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    has_returned: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.has_returned.set()


class LogListener:
    """Listens for the logs of one database."""

    name = "log_listener"

    def __init__(
        self,
        database: Database,
        queries: LogQueries,
        followers: Followers,
        *,
        timeout: float,
    ) -> None:
        self._database = database
        self._queries, self._followers = queries, followers
        self._timeout = timeout
        self._listeners = Listeners(database, timeout=timeout)
        self._loops = Loops(self, begun=self._begun, replaced=_do_nothing)
        self._doorbell = Availability("the doorbell of the log of answers")
        self._followed = FollowedLogs()
        self._listener = _Listener()
        self._is_lost = False
        self._dropped = 0
        self._renew_at = 0.0

    def wait(self, log_id: str, after: int, timeout: float) -> Record | None:
        """Wait until a log may have a record with a number above ``after``.

        :returns: such a record if it is known.
        :raises BackendError: it cannot be said to who writes that the log is followed.
        """
        deadline = time.monotonic() + timeout
        with self._followed.waiting_for(log_id) as followed:
            self._wait(log_id, followed, after, deadline)
            return followed.end if after < END else None

    def _wait(
        self, log_id: str, followed: Followed, after: int, deadline: float
    ) -> None:
        self._loops.try_to_begin()
        if not followed.is_stored:
            self._store(log_id, followed)
        if followed.is_to_look_at:
            again_at = time.monotonic() + _AGAIN
            if followed.wait(after, min(again_at, deadline)):
                return
            if again_at <= deadline:
                followed.is_to_look_at = False
                self._look_at(log_id, followed)
        followed.wait(after, deadline)

    def close(self) -> None:
        """Let the thread end, and wait for it."""
        listener = self._listener
        if self._loops.closing is None:
            return
        self._loops.end_if(lambda: True)
        self._listeners.close()
        listener.has_returned.wait(self._timeout)
        self._leave(listener)

    def _store(self, log_id: str, followed: Followed) -> None:
        """Say to those who write that a log is followed."""
        # Before: the listener must not take what is there for news without a ring.
        self._look_at(log_id, followed)
        name = self._listener.name
        self._database.run(lambda on: self._followers.follow(on, name, [log_id]))
        followed.is_stored = True
        if ended := self._followed.forget_ended():
            # Each notification would bring their news, too.
            with suppress(BackendError):  # their rows expire
                self._database.run(lambda on: self._followers.forget(on, name, ended))

    def _look_at(self, log_id: str, followed: Followed) -> None:
        followed.find(self._database.run(lambda on: self._queries.last(on, log_id)))

    # the thread

    def turn(self, closing: threading.Event) -> None:
        """Listen until nobody follows any more, or the database fails."""
        listener = self._listener
        if closing.is_set():
            return  # it may be that of those who follow now
        listener.has_returned.clear()
        try:
            if self._is_lost:
                self._is_lost = False
                self._poll_for(listener, self._doorbell.backoff(), closing)
            if not closing.is_set():
                self._listen(listener, closing)
        finally:
            if closing.is_set():
                self._leave(listener)
            listener.has_returned.set()

    def failed(self, error: BaseException) -> None:
        """Note that nothing is heard: it polls for a while, then tries again."""
        self._is_lost = True
        self._doorbell.lost(error)

    def _begun(self) -> None:
        self._listener = _Listener()
        for followed in self._followed.all().values():
            followed.is_stored = False

    def _listen(self, listener: _Listener, closing: threading.Event) -> None:
        self._dropped = self._database.connections_dropped
        listening = self._listening(listener, closing)
        self._renew(listener)
        can_listen = self._listeners.can_listen
        if can_listen and self._listeners.hear(listening) is ListenEnd.OVER:
            return
        self._poll(listener, closing)

    def _listening(self, listener: _Listener, closing: threading.Event) -> Listening:
        name = listener.name

        def register(number: int) -> None:
            with suppress(BackendError):  # it polls
                self._database.run(
                    lambda on: self._followers.register(on, name, number),
                    reconnects=False,
                )

        return Listening(
            name=name,
            poll=partial(self._look, listener),
            heard=self._heard,
            known=self._found,
            news=self._queries.news_statement(self._database.engine, name),
            register=register,
            query=lambda statement: self._database.run(
                lambda on: on.exec_driver_sql(statement).scalar()
            ),
            ring=lambda: self._database.run(lambda on: self._followers.ring(on, name)),
            closing=closing,
            timeout=self._timeout,
            is_outdated=partial(self._is_over, listener),
        )

    def _is_over(self, listener: _Listener) -> bool:
        """Renew what is followed now and then; return whether to listen no more."""
        if time.monotonic() >= self._renew_at:
            self._followed.forget_left()
            if self._loops.end_if(lambda: not self._followed.all()):
                return True
            self._renew(listener)
        return self._database.connections_dropped != self._dropped

    def _renew(self, listener: _Listener) -> None:
        self._renew_at = time.monotonic() + RENEWAL
        name, followed = listener.name, self._followed.all()
        self._database.run(lambda on: self._followers.renew(on, name, followed))
        for each in followed.values():
            each.is_stored = True

    def _leave(self, listener: _Listener) -> None:
        with suppress(BackendError):  # its rows expire
            self._database.run(lambda on: self._followers.leave(on, listener.name))

    def _look(self, listener: _Listener) -> set[str]:
        """Note the last record of each log, and return the news."""
        news = self._database.run(lambda on: self._queries.news(on, listener.name))
        for each in map(News.parse, news):
            if followed := self._followed.get(each.log_id):
                followed.set(each)
        return news

    def _heard(self, news: Collection[str]) -> None:
        self._doorbell.found()
        for each in map(News.parse, news):
            if followed := self._followed.get(each.log_id):
                followed.heard(each)

    def _found(self) -> set[str]:
        return {str(log.found) for log in self._followed.all().values()}

    def _poll(
        self,
        listener: _Listener,
        closing: threading.Event,
        until: float = math.inf,
    ) -> None:
        known: set[str] = set()
        pause = _FIRST_PAUSE
        while not closing.wait(pause) and not self._is_over(listener):
            if time.monotonic() >= until:
                return
            found = self._look(listener)
            pause = min(_LONGEST_PAUSE, 1.5 * pause) if found <= known else _FIRST_PAUSE
            known = found

    def _poll_for(
        self, listener: _Listener, seconds: float, closing: threading.Event
    ) -> None:
        until = time.monotonic() + seconds
        try:
            self._poll(listener, closing, until)
        except BackendError:
            closing.wait(max(0.0, until - time.monotonic()))


def _do_nothing() -> None:
    """Stand in for what needs no notice."""

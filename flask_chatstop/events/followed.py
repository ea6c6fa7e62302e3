"""The logs of a store that are followed in this process, and who waits for them."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from flask_chatstop.backends.database.news import News
from flask_chatstop.events.records import END, Record

#: The number of a log without records.
NOTHING = -1


class Followed:
    """One log that is followed here."""

    def __init__(self, log_id: str, lock: threading.Lock) -> None:
        #: Whether those who write have been told.
        self.is_stored = False
        #: Whether to look at it again: who has written while it was stored may not have
        #: known of it.
        self.is_to_look_at = True
        self.waiters = 0
        self.was_waited_for = False
        self._changed = threading.Condition(lock)
        # What is last in it, as far as it is known.
        self._news = News(log_id, NOTHING)
        #: The same as who follows has found it, and nobody has rung for.
        self.found = self._news

    @property
    def is_over(self) -> bool:
        """Whether its end is there."""
        return self._news.number == END

    @property
    def end(self) -> Record | None:
        """Its end, if it is over and its end is short."""
        data = self._news.end
        return None if data is None else Record(END, data)

    def wait(self, after: int, until: float) -> bool:
        """Wait for a record with a number above ``after``; tell whether it is there."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._news.number > after, until - time.monotonic()
            )

    def set(self, news: News) -> None:
        """Note what is last, whose number may be lower than before.

        The store may have lost its data.
        """
        with self._changed:
            self._news = news
            self._changed.notify_all()

    def find(self, news: News) -> None:
        """Note what is last, which was looked for."""
        self.found = news
        self.set(news)

    def heard(self, news: News) -> None:
        """Note that there is a record, unless a later one is known."""
        with self._changed:
            self._news = max(self._news, news, key=lambda each: each.number)
            self._changed.notify_all()


class FollowedLogs:
    """All of them, by their ids."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logs: dict[str, Followed] = {}

    @contextmanager
    def waiting_for(self, log_id: str) -> Iterator[Followed]:
        """Follow a log for the length of the block, and a while longer."""
        with self._lock:
            followed = self._logs.get(log_id)
            if followed is None:
                followed = self._logs[log_id] = Followed(log_id, self._lock)
            followed.waiters += 1
        try:
            yield followed
        finally:
            with self._lock:
                followed.waiters -= 1
                followed.was_waited_for = True

    def get(self, log_id: str) -> Followed | None:
        """Return a log if it is followed."""
        return self._logs.get(log_id)

    def all(self) -> dict[str, Followed]:
        """Return all that are followed."""
        with self._lock:
            return dict(self._logs)

    def forget_ended(self) -> set[str]:
        """Forget those that are over unless somebody waits; return their ids."""
        with self._lock:
            ended = {
                log_id
                for log_id, followed in self._logs.items()
                if followed.is_over and not followed.waiters
            }
            for log_id in ended:
                del self._logs[log_id]
        return ended

    def forget_left(self) -> None:
        """Forget those that nobody has waited for since the last call."""
        with self._lock:
            for log_id, followed in list(self._logs.items()):
                if not followed.waiters and not followed.was_waited_for:
                    del self._logs[log_id]
                followed.was_waited_for = False

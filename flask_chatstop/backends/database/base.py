"""What each dialect module provides: everything that differs between databases."""

import abc
import difflib
import os
import threading
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine

from flask_chatstop.backends.database.followers import Followers
from flask_chatstop.backends.database.queries import Queries
from flask_chatstop.backends.database.sockets import can_read
from flask_chatstop.errors import ConfigurationError


class ListenEnd(Enum):
    """Why :meth:`Dialect.listen` has returned."""

    OVER = "over"
    #: The worker listens again at once, on a new connection.
    AGAIN = "again"
    #: The server, or what leads to it, does not allow it. The worker polls.
    UNABLE = "unable"


@dataclass(frozen=True, slots=True)
class Listening:
    """What one listener listens for, and until when.

    Its news are texts: the ids of a worker's tasks that are stopping, or the logs of
    answers that have more, each with the number of its last record.

    :param name: what the listener is rung by, like the id of its worker.
    :param poll: queries the table, reports the news that it finds and returns them.
    :param heard: takes news.
    :param known: returns the news that the listener has learned by itself. That nobody
        has rung for them does not mean that rings are lost.
    :param news: the statement, and its parameters, that selects the news; for the
        driver.
    :param register: stores how the server knows the listener's connection.
    :param query: executes a query on another connection, and returns its first value.
    :param ring: rings this listener as others do.
    :param closing: ends the listening when it is set.
    :param timeout: seconds that one call to the server may take.
    :param is_outdated: returns whether the listening has to end all the same, because
        connections were dropped since it began, say. It is called twice a second.
    :param pid: of the process that began to listen.
    """

    name: str
    poll: Callable[[], Collection[str]]
    heard: Callable[[Collection[str]], None]
    known: Callable[[], Collection[str]]
    news: tuple[str, dict[str, Any]]
    register: Callable[[int], None]
    query: Callable[[str], Any]
    ring: Callable[[], None]
    closing: threading.Event
    timeout: float
    is_outdated: Callable[[], bool]
    pid: int = field(default_factory=os.getpid)

    def leave_to_parent(self) -> None:
        """Stay here for ever if this is a greenlet of the process that was forked.

        It would take the parent's place. A connection that is the parent's would miss
        what is read here, and be lost by its close.
        """
        if os.getpid() != self.pid:
            threading.Event().wait()

    @property
    def is_over(self) -> bool:
        """Whether the listening has to end."""
        return self.closing.is_set() or self.is_outdated()


class Dialect(abc.ABC):
    """One database: its queries, its connections, its listener and its errors.

    ``dialects.py`` lists the instances. They have no state.
    """

    #: The driver of a URL that names none, its module, and the extra that installs it.
    driver: str
    module: str
    extra: str

    #: How many connections an engine of the backend's own has.
    pool_size = 10

    #: Whether the database is a file that the process itself opens. The backend then
    #: opens it with an engine of its own, closes it before a fork and creates the table
    #: when it is missing.
    is_file = False

    @abc.abstractmethod
    def queries(self, table: Table, *, lease: float, retention: float) -> Queries:
        """Return the queries on the table of tasks."""

    @abc.abstractmethod
    def followers(self, table: Table, *, lease: float) -> Followers:
        """Return the queries on the table of those who follow logs of answers."""

    @abc.abstractmethod
    def make_engine(self, url: URL, timeout: float, *, is_shared: bool) -> Engine:
        """Make an engine whose every call ends within the timeout.

        :param is_shared: whether the app uses the database too; its settings then stay.
        """

    def check_url(self, url: URL) -> None:  # noqa: B027 - most accept every URL
        """Do nothing if the backend can use a URL of this database.

        :raises ConfigurationError: it cannot.
        """

    def check_options(self, options: dict[str, Any]) -> None:  # noqa: B027
        """Do nothing if the driver would take these options of a URL.

        :raises ConfigurationError: it does not know the name of one.
        :raises ValueError: it would not take a value; the same for TypeError.
        """

    def create_table(self, connection: Connection, table: Table) -> None:
        """Create a table and its indexes unless they exist."""
        table.create(connection, checkfirst=True)

    def bounded(self, driver: Any, deadline: float) -> AbstractContextManager[None]:
        """Let the calls on a driver's connection end by the deadline.

        This one changes nothing.
        """
        return nullcontext()

    def can_listen(self, engine: Engine) -> bool:
        """Return whether :meth:`listen` works with the driver of an engine.

        Where it does not, the worker polls.
        """
        return False

    def listen(self, driver: Any, listening: Listening) -> ListenEnd:
        """Report stops to one worker until ``closing`` is set.

        :param driver: a driver's connection that nothing else uses.
        """
        raise NotImplementedError

    @abc.abstractmethod
    def may_retry(self, error: Any) -> bool:
        """Return whether a statement gave way to another one and changed nothing."""

    @abc.abstractmethod
    def is_missing_table(self, error: Any) -> bool:
        """Return whether a driver's error says that the table does not exist."""

    def is_outdated(self, error: Any) -> bool:
        """Return whether the server refuses what it may accept on a new connection.

        The primary has changed behind its address, say, and the connection still leads
        to the old one. Nothing was changed. This one returns False.
        """
        return False

    @abc.abstractmethod
    def is_refusal(self, error: Any) -> bool:
        """Return whether the database refuses a record, and goes on with others."""

    def text_of(self, error: object) -> str:
        """Return a driver's error as one line, with advice where there is some."""
        return " ".join(str(error).split())

    def is_stale(self, driver: Any) -> bool:
        """Return whether the server has closed an idle connection.

        It costs no round trip: an idle connection is readable only after it was cut.
        This check keeps a statement that must not be repeated from failing on the
        first use after a restart of the server.
        """
        return is_readable(driver)

    def _create_engine(self, url: URL, timeout: float, **options: Any) -> Engine:
        return create_engine(
            url,
            # Each statement is a transaction of its own: no BEGIN, COMMIT or ROLLBACK.
            isolation_level="AUTOCOMMIT",
            skip_autocommit_rollback=True,
            pool_reset_on_return=None,
            pool_size=self.pool_size,
            # The backend keeps those. More are for an app that uses the engine itself.
            max_overflow=-1,
            pool_use_lifo=True,
            **options,
        )


def is_readable(sock: Any) -> bool:
    """Return whether a connection has something to read, or is closed."""
    try:
        return can_read(sock)
    except AttributeError:  # a driver that does not show its socket
        return False
    except Exception:  # drivers differ in what they raise for a closed connection
        return True


def check_names(options: Collection[str], known: Collection[str], driver: str) -> None:
    """Do nothing if a driver knows the names of all options.

    :raises ConfigurationError: it does not; the message has the name and no value.
    """
    for name in sorted(set(options).difference(known)):
        near = difflib.get_close_matches(name, known, 1, 0.7)
        advice = f"; did you mean {near[0]}?" if near else "."
        raise ConfigurationError(
            f"The database URL has the option {name!r}, which {driver} does not have"
            f"{advice}"
        )

"""The HTTP calls that a task has open, and what a stop does to them.

A call belongs to its task from the moment its request is sent until its response is
closed. A stop shuts down the socket of every open call, and refuses new calls to the
origins that the task has called before. Reading a call that was cut, and asking for one
that is refused, raise :class:`~flask_chatstop.SourceStopped`.

A context variable says which task a thread or asyncio task works for, see
:func:`binding`.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from flask_chatstop.logs import get_logger
from flask_chatstop.upstream import cleanup
from flask_chatstop.upstream.shut_down import shut_down

logger = get_logger(__name__)

# What observes an app may send its reports in the source's own thread.
_OBSERVERS = ("langsmith", "langfuse", "otel-", "opentelemetry", "sentry")

_NEVER = float("-inf")

_bound: ContextVar["Binding | None"] = ContextVar("chatstop_bound", default=None)


class Call:
    """One HTTP call of a task, from its request to the close of its response."""

    __slots__ = ("_calls", "_sock", "is_cut")

    def __init__(self, calls: "Calls") -> None:
        self._calls = calls
        self._sock: object = None
        self.is_cut = False

    def sends_on(self, sock: object) -> None:
        """Note the socket that the request is about to be sent on.

        :raises SourceStopped: the task was stopped meanwhile.
        """
        with self._calls.lock:
            self._sock = sock
        if self._calls.refuses:
            self._calls.tell()

    def close(self) -> None:
        """Take the call out of the record; call it before the connection is reused."""
        self._calls.forget(self)

    def cut(self) -> None:
        """Shut the socket down; the caller holds the lock of the calls."""
        self.is_cut = True
        if self._sock is not None:
            shut_down(self._sock)

    def raise_if_cut(self) -> None:
        """Raise in the thread that reads the call.

        :raises SourceStopped: the call was cut.
        """
        if self.is_cut:
            self._calls.tell()


class Calls:
    """The open calls of one task. All methods may be called from any thread.

    :param is_tracking: whether calls are put into the record at all.
    :param task: returns the task while somebody holds it.
    """

    __slots__ = (
        "__weakref__",
        "_cut",
        "_is_over",
        "_open",
        "_origins",
        "_told_at",
        "cancelled_at",
        "has_other_upstream",
        "is_tracking",
        "lock",
        "refuses",
        "task",
    )

    def __init__(
        self, is_tracking: bool = True, task: Callable[[], Any] = lambda: None
    ) -> None:
        self.task = task
        #: Held while a socket is shut down, so that no call is closed meanwhile and
        #: its connection given to another task. Reentrant: the garbage collector may
        #: close a response in the thread that holds it. It is the lock of the task
        #: too: under gevent each takes a third of a KiB.
        self.lock = threading.RLock()
        self.is_tracking = is_tracking
        self._cut = 0
        #: Whether new calls are refused.
        self.refuses = False
        #: Whether the task reads its model by something that is not tracked.
        self.has_other_upstream = False
        #: When the async source of the task was cancelled.
        self.cancelled_at: float | None = None
        self._is_over = not is_tracking
        self._told_at = _NEVER
        # Made with the first call: most streams that wait have one or none.
        self._open: set[Call] | None = None
        self._origins: set[object] | None = None

    def open(self, origin: object, user_agent: str = "") -> Call | None:
        """Begin a call, before its connection is looked for.

        :param origin: scheme, host and port; anything hashable.
        :returns: ``None`` for a call that no stop is to touch.
        :raises SourceStopped: the call is refused.
        """
        if user_agent.lower().startswith(_OBSERVERS):
            return None
        with self.lock:
            if self._is_over:
                return None
            if not self.refuses:
                if self._open is None or self._origins is None:
                    self._open, self._origins = set(), set()
                self._origins.add(origin)
                call = Call(self)
                self._open.add(call)
                return call
            was_called = self._origins is not None and origin in self._origins
            is_first = self._origins is None
        if cleanup.is_running(self, self.cancelled_at):
            return None
        may_save = self.has_other_upstream or cleanup.has_seen(self)
        if was_called or (is_first and not may_save):
            logger.info("A stopped task asks %s for more, and is refused.", origin)
            self.tell()
        return None

    def forget(self, call: Call) -> None:
        """Drop a call that has ended."""
        with self.lock:
            if self._open is not None:
                self._open.discard(call)

    def refuse(self) -> None:
        """Refuse new calls from now on."""
        self.refuses = True

    def cut(self) -> None:
        """Refuse new calls, and shut down all open ones."""
        with self.lock:
            self.refuses = True
            calls, self._open = self._open or (), None
            self._cut += len(calls)
            for call in calls:
                call.cut()

    def count_cut(self) -> int:
        """Return how many calls were cut, with those that are about to be.

        A stop tells the app of the end first, and cuts a moment later.
        """
        with self.lock:
            return self._cut + (len(self._open or ()) if self.refuses else 0)

    def finish(self) -> None:
        """Let what was sent off go on: the task has ended by itself."""
        with self.lock:
            self._is_over = True
            self._open = None

    def tell(self) -> None:
        """Raise in a thread that works for the stopped task.

        :raises SourceStopped: always.
        """
        self._told_at = time.monotonic()
        here = _bound.get()
        error = cleanup.stopped_error(None if here is None else here.thread)
        if not isinstance(error, cleanup.ThreadStopped):
            cleanup.begin(self)
        raise error

    @property
    def was_told(self) -> bool:
        """Whether a thread was told of the stop."""
        return self._told_at > 0

    def was_told_within(self, seconds: float) -> bool:
        """Tell whether a thread was told of the stop in the last seconds."""
        return time.monotonic() - self._told_at < seconds


@dataclass(frozen=True, slots=True)
class Binding:
    """What a thread or asyncio task works for.

    :param in_view: whether it is a view that works for the task, and not its source.
    :param is_shielded: whether its calls are not to be touched.
    :param thread: where it was bound. Threads that copy the context are others.
    """

    calls: Calls
    in_view: bool
    is_shielded: bool
    thread: int


def bound() -> Binding | None:
    """Return what this thread or asyncio task works for."""
    return _bound.get()


def bound_calls() -> Calls | None:
    """Return the calls that this thread or asyncio task makes for a task."""
    binding = _bound.get()
    return None if binding is None or binding.is_shielded else binding.calls


def bind(
    calls: Calls, *, in_view: bool = False, is_shielded: bool = False
) -> Binding | None:
    """Let this context work for a task; return what it worked for before."""
    before = _bound.get()
    _bound.set(Binding(calls, in_view, is_shielded, threading.get_ident()))
    return before


def restore(before: Binding | None) -> None:
    """Let this context work for what it worked for before."""
    _bound.set(before)


@contextmanager
def binding(calls: Calls, *, is_shielded: bool = False) -> Iterator[None]:
    """Let a with block work for a task."""
    before = bind(calls, is_shielded=is_shielded)
    try:
        yield
    finally:
        restore(before)

"""How the cleanup of a stopped source is told from its work.

Both send requests from the same thread. A source is cleaning up once it was told of its
stop: by an exception, or because it looked at ``task.stopped``. Losing what it saves is
worse than one request too many.
"""

import asyncio
import concurrent.futures.thread
import sys
import threading
import time
from contextvars import ContextVar

from flask_chatstop.errors import SourceStopped

#: Seconds in which requests pass where a source was told of its stop.
CLEANUP_TIME = 10.0

# Which stopped calls this thread or asyncio task was told of, and when.
_told: ContextVar[tuple[object, float] | None] = ContextVar(
    "chatstop_told", default=None
)
# Whose `stopped` was found to be true in this thread or asyncio task.
_seen: ContextVar[object] = ContextVar("chatstop_seen", default=None)


class ThreadStopped(SourceStopped, Exception):
    """The task was stopped, for a thread that a library has begun for the source.

    Such a thread reports what goes wrong to the source by ``except Exception``. Any
    other exception kills it silently, and the source waits for it for ever. A retry
    loop may take it for a failure, so it is not the beginning of a cleanup.
    """


def stopped_error(bound_in: int | None) -> SourceStopped:
    """Return what this thread is told of a stop by.

    :param bound_in: the thread that was bound to the task. This one is another one if
        it copied the context.
    """
    thread = threading.current_thread()
    # A pool's thread passes on any exception. So do the classes that have a run() of
    # their own, like anyio's, and greenlets that are not a Thread.
    is_librarys = (
        bound_in not in (None, threading.get_ident())
        and type(thread).run is threading.Thread.run
        and not isinstance(thread, threading._DummyThread)
        and getattr(thread, "_target", None) is not concurrent.futures.thread._worker
    )
    return ThreadStopped() if is_librarys else SourceStopped()


def begin(calls: object) -> None:
    """Let requests of this thread or asyncio task pass from now on."""
    _told.set((calls, time.monotonic()))


def note_seen(calls: object) -> None:
    """Note that this thread or asyncio task has seen that the task is stopped."""
    _seen.set(calls)


def has_seen(calls: object) -> bool:
    """Tell whether this thread or asyncio task has seen it, or handles an exception."""
    return _seen.get() is calls or sys.exc_info()[1] is not None


def is_running(calls: object, cancelled_at: float | None) -> bool:
    """Tell whether this thread or asyncio task cleans up after the stop.

    :param cancelled_at: when an async source was cancelled. What cleans up for it may
        be an asyncio task or a thread that it begins, and that was told of nothing.
    """
    if cancelled_at is not None:
        return time.monotonic() - cancelled_at < CLEANUP_TIME
    told = _told.get()
    if told is not None and told[0] is calls:
        return time.monotonic() - told[1] < CLEANUP_TIME
    # In an `except` or a `finally`, also of an inner generator that was closed.
    error = sys.exc_info()[1]
    if isinstance(error, ThreadStopped):
        return False
    if isinstance(error, SourceStopped | GeneratorExit | asyncio.CancelledError):
        begin(calls)
        return True
    return _is_cancelled()


def _is_cancelled() -> bool:
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs in this thread
        return False
    return task is not None and task.cancelling() > 0

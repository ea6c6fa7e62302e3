"""Saying where a source is blocked that was stopped and does not end."""

import logging
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from types import FrameType

logger = logging.getLogger(__name__)

#: Seconds after its stop at which a source that still runs is logged.
BLOCKED_AFTER = 2.0
#: Seconds after which a thread that does not work for the task is named as the reason.
THREAD_AFTER = 5.0

#: Innermost frames that are logged.
_FRAMES = 5
# Modules whose code waits for another thread.
_WAITING = ("threading", "queue", "concurrent.futures._base", "gevent")

FindFrame = Callable[[], FrameType | None]


def frame_finder() -> FindFrame:
    """Return what finds the innermost frame of the thread or greenlet that calls it."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        greenlet = weakref.ref(sys.modules["greenlet"].getcurrent())
        return lambda: getattr(greenlet(), "gr_frame", None)
    ident = threading.get_ident()
    return lambda: sys._current_frames().get(ident)


def warn_of_blocked(name: str, find_frame: FindFrame) -> None:
    """Log where a stopped source is blocked.

    :param name: of the task.
    """
    stack = traceback.extract_stack(find_frame(), limit=_FRAMES)
    places = [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in stack]
    logger.warning(
        "Task %r was stopped %.0f s ago, and its source is still blocked here,"
        " innermost last: %s. Register what ends it with task.on_stop().",
        name,
        BLOCKED_AFTER,
        "; ".join(places) or "unknown",
    )


def warn_of_thread(name: str, find_frame: FindFrame) -> None:
    """Log that a stopped source seems to wait for a thread of the app, if it does."""
    frame = find_frame()
    for _ in range(_FRAMES):
        if frame is None:
            return
        if str(frame.f_globals.get("__name__")).startswith(_WAITING):
            logger.warning(
                "The source of task %r, stopped %.0f s ago, waits for another thread,"
                " whose calls are not hung up on. If that thread works for the task,"
                " start it with task.bind(), like Thread(target=task.bind(work)).",
                name,
                THREAD_AFTER,
            )
            return
        frame = frame.f_back

"""Saying where a source is blocked that was stopped and does not end."""

import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from flask_chatstop.greenlets import threads_are_greenlets
from flask_chatstop.logs import get_logger
from flask_chatstop.upstream.calls import Calls

logger = get_logger(__name__)

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
    if threads_are_greenlets():
        greenlet = weakref.ref(sys.modules["greenlet"].getcurrent())
        return lambda: getattr(greenlet(), "gr_frame", None)
    ident = threading.get_ident()
    return lambda: sys._current_frames().get(ident)


def watch_thread(
    name: str,
    find_frame: FindFrame,
    calls: Calls,
    wait_until_gone: Callable[[float], bool],
) -> None:
    """Log where the thread of a stopped source is blocked if it does not end.

    :param name: of the task.
    :param wait_until_gone: waits so many seconds, and tells whether it has ended.
    """
    if wait_until_gone(BLOCKED_AFTER):
        return
    # A library that tries again is refused each time, and gives up by itself.
    gives_up = calls.was_told_within(BLOCKED_AFTER)
    if not gives_up:
        warn_of_blocked(name, list(_frames(find_frame())), calls.was_told)
    if wait_until_gone(THREAD_AFTER - BLOCKED_AFTER):
        return
    frames = list(_frames(find_frame()))
    if gives_up:
        warn_of_blocked(name, frames, calls.was_told)
    if any(str(f.f_globals.get("__name__")).startswith(_WAITING) for f in frames):
        logger.warning(
            "The source of task %r, stopped %.0f s ago, waits for another thread,"
            " whose calls are not hung up on. If that thread works for the task,"
            " start it with task.bind(), like Thread(target=task.bind(work)).",
            name,
            THREAD_AFTER,
        )


def warn_of_blocked(name: str, frames: list[FrameType], is_told: bool = False) -> None:
    """Log where a stopped source is blocked.

    :param frames: the innermost ones, that one first.
    :param is_told: whether the source knows of its stop, and so is cleaning up.
    """
    advice = (
        "It was told of the stop, and may be cleaning up."
        if is_told
        else "Register what ends it with task.on_stop()."
    )
    logger.warning(
        "Task %r was stopped %.0f s ago, and its source is still blocked here,"
        " innermost last: %s. %s",
        name,
        BLOCKED_AFTER,
        places(frames),
        advice,
    )


def places(frames: list[FrameType]) -> str:
    """Return frames as one line, the innermost last."""
    stack = [traceback.extract_stack(frame, limit=1)[0] for frame in reversed(frames)]
    return (
        "; ".join(f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in stack)
        or "unknown"
    )


def awaiting_frames(coroutine: Any) -> list[FrameType]:
    """Return the innermost frames of a coroutine that waits, that one first."""
    frames: list[FrameType] = []
    while coroutine is not None:
        for kind in ("cr", "ag", "gi"):
            frame = getattr(coroutine, f"{kind}_frame", None)
            if frame is not None:
                frames.insert(0, frame)
                inner = "gi_yieldfrom" if kind == "gi" else f"{kind}_await"
                coroutine = getattr(coroutine, inner)
                break
        else:
            break
    return frames[:_FRAMES]


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    for _ in range(_FRAMES):
        if frame is None:
            return
        yield frame
        frame = frame.f_back

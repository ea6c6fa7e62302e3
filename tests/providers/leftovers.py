"""The threads, greenlets and asyncio tasks that a source has left behind."""

import asyncio
import concurrent.futures.thread
import gc
import queue
import sys
import threading
import time
import types
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask_chatstop.generation.loop import source_loop

#: Where a thread is that waits for work and does none: a pool's, which libraries keep
#: for the process, a server's, and one of llama-index's chat memory, a database.
_IDLE = (
    threading.__file__,
    queue.__file__,
    concurrent.futures.thread.__file__,
    "/site-packages/aiosqlite/",
    "/site-packages/gevent/",
    "/site-packages/gunicorn/",
)


class Leftovers:
    """Tells what runs that did not run at the beginning."""

    def __init__(self) -> None:
        self._known: weakref.WeakSet[object] = weakref.WeakSet()

    def begin(self) -> None:
        """Take all that runs now for the app's own."""
        self._known = weakref.WeakSet([*_tasks(), *(runner for runner, _ in _stacks())])

    def wait(self, timeout: float) -> tuple[list[str], list[str]]:
        """Wait until nothing new is left, and tell the threads and tasks by then."""
        deadline = time.monotonic() + timeout
        while True:
            began = time.thread_time()
            left = self._left()
            if not any(left) or time.monotonic() >= deadline:
                return left
            # A thread's end cannot be waited for by one who lists all. Under gevent, a
            # look goes through all objects of the process, whose one thread the source
            # needs to end.
            time.sleep(max(0.01, 5 * (time.thread_time() - began)))

    def _left(self) -> tuple[list[str], list[str]]:
        threads = [
            _describe(runner, stack)
            for runner, stack in _stacks()
            if runner not in self._known and not _is_idle(stack)
        ]
        return threads, [repr(task) for task in _tasks() if task not in self._known]


def _tasks() -> set["asyncio.Task[object]"]:
    """Give the asyncio tasks on the loop of the async sources, which begins with it."""
    return asyncio.all_tasks(source_loop().loop)


def _stacks() -> Iterator[tuple[object, list[types.FrameType]]]:
    """Give each other thread and greenlet, with its frames, innermost first."""
    threads = {thread.ident: thread for thread in threading.enumerate()}
    mine = sys._getframe()
    for ident, frame in sys._current_frames().items():
        stack = list(_frames(frame))
        if mine not in stack:
            yield threads.get(ident, _Nameless()), stack
    greenlet: Any = sys.modules.get("greenlet")
    if greenlet is not None:
        for suspended in gc.get_objects():
            # Not isinstance(), which wakes proxies that pretend to be something else.
            if issubclass(type(suspended), greenlet.greenlet) and suspended.gr_frame:
                yield suspended, list(_frames(suspended.gr_frame))


class _Nameless:
    """A thread that was begun without a ``Thread``."""


def _frames(frame: types.FrameType | None) -> Iterator[types.FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_idle(stack: list[types.FrameType]) -> bool:
    files = [frame.f_code.co_filename for frame in stack]
    return all(any(part in file for part in _IDLE) for file in files)


def _describe(runner: object, stack: list[types.FrameType]) -> str:
    frames = [
        f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}"
        for frame in stack[:12]
    ]
    return f"{getattr(runner, 'name', runner)}: {' < '.join(frames)}"

"""The event loop that the async sources of a process run on."""

import asyncio
import atexit
import os
import selectors
import sys
import threading
from collections.abc import Coroutine, Mapping
from contextvars import Context
from typing import Any

from flask_chatstop.forks import call_in_child, notice_fork
from flask_chatstop.threads import pass_on_interrupt

#: Seconds that the cleanup of all async sources may take when the process exits.
_AT_EXIT = 2.0
#: Seconds for the tasks that libraries keep on the loop, after that.
_AT_LAST = 0.5


class SourceLoop:
    """One event loop in a daemon thread of its own, under gevent in a greenlet.

    One for the process, and not one for each stream: an async client whose connections
    were made on one loop fails on another.
    """

    def __init__(self) -> None:
        # Not at the top: gevent may patch after our import, and a lock of that module
        # that was made before would block all greenlets.
        from flask_chatstop.generation.pool import LoopPool

        self._selector = _SharedThreadSelector() if _is_greenlet() else None
        self.loop: asyncio.AbstractEventLoop = (
            asyncio.SelectorEventLoop(self._selector)
            if self._selector is not None
            else asyncio.new_event_loop()
        )
        pool = LoopPool(thread_name_prefix="chatstop_pool")
        self.loop.set_default_executor(pool)
        # Called before what was registered at our import, which cancels the sources.
        atexit.register(pool.end_threads)
        self._sources: set[asyncio.Task[None]] = set()
        self._discard = self._sources.discard  # one for all sources, and not one each
        self._thread = threading.Thread(
            target=self._run, name="chatstop_loop", daemon=True
        )
        self._thread.start()

    @property
    def ident(self) -> int | None:
        """The id of its thread."""
        return self._thread.ident

    @property
    def is_alive(self) -> bool:
        """Whether sources can run on it."""
        return self._thread.is_alive() and not self.loop.is_closed()

    def run_source(
        self, source: Coroutine[Any, Any, None], context: Context
    ) -> "asyncio.Task[None]":
        """Begin to run a source; to be called on the loop."""
        task = self.loop.create_task(source, context=context)
        self._sources.add(task)
        task.add_done_callback(self._discard, context=context)
        return task

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        if self._selector is not None:
            self._selector.begin()
        try:
            self.loop.run_forever()
        except BaseException as error:
            pass_on_interrupt(error)
            raise
        finally:
            self.loop.close()

    def close(self) -> None:
        """Cancel what runs, give it a moment to clean up, and end the thread."""
        if self.is_alive:
            asyncio.run_coroutine_threadsafe(self._end(), self.loop)
            self._thread.join(2 * _AT_EXIT)

    async def _end(self) -> None:
        for task in self._sources:
            # Once, or what it saves in its cleanup would be cancelled. For the same
            # reason the tasks that it waits for are left alone until it is over.
            if not task.cancelling():
                task.cancel()
        if self._sources:
            await asyncio.wait(self._sources.copy(), timeout=_AT_EXIT)
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for each in rest:
            each.cancel()
        if rest:
            await asyncio.wait(rest, timeout=_AT_LAST)
        await self.loop.shutdown_asyncgens()
        self.loop.stop()


# A process has one, and a forked child makes its own. It leaves the old one as it is:
# its selector is shared with the parent.
_lock = threading.Lock()
_current: SourceLoop | None = None
_of_the_parent: list[SourceLoop] = []


def source_loop() -> SourceLoop:
    """Return the loop of this process, begun with the first async source.

    :raises RuntimeError: there are too many threads.
    """
    global _current, _lock
    notice_fork()
    if not isinstance(_lock, type(threading.Lock())):
        # gevent has patched threads since. While one greenlet begins the loop, a
        # native lock would block the others, and the one that it waits for.
        _lock = threading.Lock()
    with _lock:
        if _current is None or not _current.is_alive:
            _current = SourceLoop()
        return _current


def _close() -> None:
    if _current is not None:
        _current.close()


def _after_fork() -> None:
    global _lock, _current
    _lock = threading.Lock()
    if _current is not None:
        _of_the_parent.append(_current)
        _current = None


atexit.register(_close)
call_in_child(_after_fork)


def _is_greenlet() -> bool:
    """Whether the loop's thread is a greenlet, since gevent has patched threads."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("select"))


class _SharedThreadSelector(selectors.BaseSelector):
    """Lets other greenlets of the thread run loops of their own while it waits.

    asyncio knows one running loop for each thread of the system. Greenlets share one,
    and a sync source that calls ``asyncio.run()`` would be refused.

    A forked child has copies of all greenlets, and they go on. There it never returns,
    since the sources are the parent's.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._selector = selectors.DefaultSelector()  # gevent's
        # What the other greenlets of the thread have, while the loop works.
        self._others: tuple[Any, Any] = None, (None, None)

    def begin(self) -> None:
        """Take the thread over from the loop of another greenlet, if it has one."""
        self._others = asyncio._get_running_loop(), sys.get_asyncgen_hooks()
        self._enter(None, (None, None))

    def select(self, timeout: float | None = None) -> Any:
        mine = asyncio._get_running_loop(), sys.get_asyncgen_hooks()
        self._enter(*self._others)
        try:
            ready = self._selector.select(timeout)
            while os.getpid() != self._pid:
                threading.Event().wait()
            return ready
        finally:
            self._others = asyncio._get_running_loop(), sys.get_asyncgen_hooks()
            self._enter(*mine)

    @staticmethod
    def _enter(running: Any, hooks: Any) -> None:
        asyncio._set_running_loop(running)
        sys.set_asyncgen_hooks(*hooks)

    def register(self, fileobj: Any, events: int, data: Any = None) -> Any:
        return self._selector.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> Any:
        return self._selector.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> Any:
        return self._selector.modify(fileobj, events, data)

    def close(self) -> None:
        self._selector.close()

    def get_map(self) -> Mapping[Any, Any]:
        return self._selector.get_map()

"""Reading an async source on the event loop of the process."""

import asyncio
import inspect
import sys
import time
from collections.abc import AsyncIterable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from flask_chatstop.generation.loop import SourceLoop, source_loop
from flask_chatstop.generation.queue import QUEUE_SIZE, ChunkQueue
from flask_chatstop.generation.reader import Reader, SourceEnd
from flask_chatstop.generation.watch import (
    BLOCKED_AFTER,
    awaiting_frames,
    places,
    warn_of_blocked,
)
from flask_chatstop.logs import get_logger
from flask_chatstop.threads import pass_on_interrupt, start_thread
from flask_chatstop.upstream import cleanup
from flask_chatstop.upstream.cleanup import CLEANUP_TIME

logger = get_logger(__name__)

T = TypeVar("T")

#: Seconds that a cancelled source has to close its connections by itself.
_GRACE = 0.1
#: Seconds that the interpreter is left to the loop that was woken to cancel a source.
_FOR_THE_LOOP = 0.0001


class AsyncSourceReader(Reader[T]):
    """Reads an async source as an asyncio task; a stop cancels it."""

    __slots__ = ("_chunks", "_is_cancelled", "_loop", "_task")

    def __init__(
        self, chunks: AsyncIterable[T], *arguments: Any, **options: Any
    ) -> None:
        self._chunks = chunks
        self._loop: SourceLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_cancelled = False
        super().__init__(chunks, *arguments, **options)

    def _make_queue(self) -> "ChunkQueue[T | SourceEnd]":
        return _AsyncQueue()

    def _begin(self) -> None:
        self._loop = source_loop()
        self._loop.loop.call_soon_threadsafe(self._create_task, self._loop)

    def _create_task(self, loop: SourceLoop) -> None:
        if self._closed:
            self._leave()
        else:
            self._task = loop.run_source(self._run(), self._context)

    def _end_calls(self) -> None:
        self._calls.refuse()
        if self._loop is None:
            self._calls.cut()
            return
        with suppress(RuntimeError):  # the loop is closed, since the process exits
            self._loop.loop.call_soon_threadsafe(self._cancel)
            if not self._is_over:
                time.sleep(_FOR_THE_LOOP)

    def _cancel(self) -> None:
        # A source that has ended by itself is left to close what it holds.
        if self._task is not None and (self._is_cancelled or not self._is_over):
            self._task.cancel()
            if self._calls.cancelled_at is None:
                self._calls.cancelled_at = time.monotonic()
        self._is_cancelled = True
        # A cancelled library closes its connections. What it leaves open, or what
        # swallows the cancellation, is hung up on.
        asyncio.get_running_loop().call_later(_GRACE, self._calls.cut)

    def _close_unread(self) -> None:
        self._leave()

    def _tell(self, callbacks: tuple[Callable[[], object], ...]) -> None:
        if callbacks:
            # The app may write to a database in them, which would block the loop.
            start_thread(super()._tell, callbacks)

    def _watch(self) -> None:
        if self._wait_until_gone(BLOCKED_AFTER):
            return
        self._calls.cut()  # the loop may be blocked by what one of them waits for
        if self._is_cancelled and self._task is not None:
            # What awaits an async generator does not say which one.
            inner = awaiting_frames(self._chunks)
            frames = inner or awaiting_frames(self._task.get_coro())
            warn_of_blocked(self._name, frames)
        else:
            self._warn_of_loop()
        if not self._wait_until_gone(CLEANUP_TIME - BLOCKED_AFTER):
            # Its time for cleaning up is over.
            self._end_calls()

    def _warn_of_loop(self) -> None:
        ident = None if self._loop is None else self._loop.ident
        frame = sys._current_frames().get(ident or 0)
        logger.warning(
            "The event loop of the async sources is blocked here, and every async"
            " source waits: %s. Await it, or run it by asyncio.to_thread().",
            places([] if frame is None else [frame]),
        )

    async def _run(self) -> None:
        items = self.items
        assert isinstance(items, _AsyncQueue)
        failure: BaseException | None = None
        try:
            self._bind()
            with self._app.app_context():
                # Not in a coroutine of its own, which a silent source would hold.
                try:
                    async for chunk in self._chunks:
                        items.put(chunk)
                        if items.is_full:
                            await items.wait_until_space()
                        if self._closed:
                            break
                except BaseException as error:
                    failure = error
                    pass_on_interrupt(error)
                await self._finish(failure)
        except BaseException as error:  # the app's, as its context began or ended
            pass_on_interrupt(error)
            logger.exception("The app context of a source failed.")
            self.items.put(SourceEnd(error))
        finally:
            self._leave()

    async def _finish(self, error: BaseException | None) -> None:
        self._is_over = True
        self.items.put(SourceEnd(error))
        if self._closed:
            cleanup.begin(self._calls)
        try:
            for name in ("aclose", "close"):
                close = getattr(self._chunks, name, None)
                if callable(close):
                    closing = close()
                    if inspect.isawaitable(closing):
                        await closing
                    break
        except BaseException as error:  # it is over all the same
            pass_on_interrupt(error)
            logger.debug("Closing the source raised %r.", error)


class _AsyncQueue(ChunkQueue[Any]):
    """A queue whose source awaits space, and does not block its loop."""

    __slots__ = ("_loop", "_space")

    def __init__(self) -> None:
        super().__init__()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._space: asyncio.Event | None = None

    @property
    def is_full(self) -> bool:
        """Whether the source has to wait."""
        return len(self._items) >= QUEUE_SIZE and not self._is_unbounded

    async def wait_until_space(self) -> None:
        """Wait until the reader has taken half."""
        self._loop = asyncio.get_running_loop()
        space = self._space = asyncio.Event()
        self._waits_for_space = True
        while self.is_full:
            await space.wait()
            space.clear()
        self._waits_for_space = False

    def _tell_space(self) -> None:
        if self._loop is not None and self._space is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._space.set)

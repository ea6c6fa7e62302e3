"""Reading a source in the thread of its reader, where chatstop is switched off."""

import asyncio
import contextlib
from collections.abc import AsyncIterable, Iterable, Iterator
from typing import Any, TypeVar

from flask_chatstop.generation.queue import ChunkQueue
from flask_chatstop.generation.reader import Reader, SourceEnd

T = TypeVar("T")


class InlineReader(Reader[T]):
    """Reads a source when its stream is read, without a thread.

    A stop is noticed between two chunks, and there are no heartbeats.
    """

    def __init__(
        self, chunks: Iterable[T] | AsyncIterable[T], *arguments: Any, **options: Any
    ) -> None:
        super().__init__(chunks, *arguments, **options)
        self._stack = contextlib.ExitStack()
        self._chunks = chunks
        self._iterator: Iterator[T] | None = None

    def _make_queue(self) -> ChunkQueue[T | SourceEnd]:
        return _InlineQueue(self)

    def _begin(self) -> None:
        self._context.run(self._enter)

    def _enter(self) -> None:
        self._bind()
        self._stack.enter_context(self._app.app_context())
        if isinstance(self._chunks, AsyncIterable):
            runner = self._stack.enter_context(asyncio.Runner())
            self._iterator = _iterate(self._chunks, runner)
        else:
            self._iterator = iter(self._chunks)

    def next(self) -> T | SourceEnd:
        """Return the next chunk, or the end of the source."""
        if self._iterator is None or self._is_over:
            return SourceEnd()
        try:
            return self._context.run(next, self._iterator)
        except StopIteration:
            end = SourceEnd()
        except KeyboardInterrupt:
            # Ctrl-C in a test of the app: its runner has to end.
            self._close_source()
            raise
        except BaseException as error:
            end = SourceEnd(error)
        self._close_source()
        return end

    def _end_calls(self) -> None:
        self._calls.cut()
        if self._started and not self._is_over:
            self._close_source()

    def _close_source(self) -> None:
        self._is_over = True
        self._context.run(self._exit)
        self._leave()

    def _exit(self) -> None:
        with self._stack:
            for iterator in (self._iterator, self._chunks):
                close = getattr(iterator, "close", None)
                if callable(close):
                    close()

    def _close_unread(self) -> None:
        self._leave()

    def _watch(self) -> None:
        """Watch nothing: the source is closed when close() returns."""


def _iterate(chunks: AsyncIterable[T], runner: asyncio.Runner) -> Iterator[T]:
    iterator = aiter(chunks)
    end = object()
    try:
        while (chunk := runner.run(_next(iterator, end))) is not end:
            yield chunk
    finally:
        aclose = getattr(iterator, "aclose", None)
        if aclose is not None:
            runner.run(aclose())


async def _next(iterator: Any, end: object) -> Any:
    return await anext(iterator, end)


class _InlineQueue(ChunkQueue[Any]):
    """Gets its items by reading the source."""

    __slots__ = ("_reader",)

    def __init__(self, reader: InlineReader[Any]) -> None:
        super().__init__()
        self._reader = reader

    def get(self, timeout: float | None = None) -> Any:
        return self._items.pop(0) if self._items else self._reader.next()

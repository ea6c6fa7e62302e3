"""The stream that a server reads, and that ends its task."""

import queue
import threading
from collections.abc import Iterator
from typing import NoReturn, Protocol, TypeVar, cast

from flask_chatstop.backends import EndReason
from flask_chatstop.errors import ChatStopError
from flask_chatstop.generation.reader import Reader, SourceEnd

T = TypeVar("T")


class StreamedTask(Protocol):
    """What a stream needs to know of its task."""

    read_by: int | None

    @property
    def stopped(self) -> bool: ...

    @property
    def end_reason(self) -> EndReason | None: ...

    def end(self, reason: EndReason, error: BaseException | None = None) -> bool: ...

    def wait_until_reported(self) -> None: ...


class ChunkStream(Iterator[T]):
    """The chunks of a source, until it ends or its task is stopped.

    A WSGI server calls :meth:`close` when the client has left, which ends it too.
    Raises the source's own error.
    """

    __slots__ = (
        "__weakref__",
        "_heartbeat",
        "_is_over",
        "_is_started",
        "_source",
        "_task",
    )

    def __init__(
        self, task: StreamedTask, source: Reader[T], heartbeat: float | None
    ) -> None:
        self._task = task
        self._source = source
        self._heartbeat = heartbeat
        self._is_started = self._is_over = False

    def __next__(self) -> T:
        self._task.read_by = threading.get_ident()
        if not self._is_started:
            self._start()
        if self._is_over:
            raise StopIteration
        if self._task.stopped:
            self._finish(EndReason.STOPPED)
        try:
            item = self._source.items.get(timeout=self._heartbeat)
        except queue.Empty:
            return cast(T, None)
        if self._task.stopped:
            self._finish(EndReason.STOPPED)
        if isinstance(item, SourceEnd):
            failed = item.error is not None
            reason = EndReason.FAILED if failed else EndReason.FINISHED
            self._finish(reason, item.error)
        return item

    def _start(self) -> None:
        if not self._task.stopped:
            try:
                self._source.start()
            except RuntimeError as error:
                self._finish(EndReason.FAILED, error)
        self._is_started = True

    def _finish(
        self, reason: EndReason, error: BaseException | None = None
    ) -> NoReturn:
        self._is_over = True
        if not self._task.end(reason, error):
            self._task.wait_until_reported()
        if error is not None and self._task.end_reason is EndReason.FAILED:
            if not isinstance(error, Exception):
                # It was meant for the source's thread, and would end the server's.
                raise ChatStopError(f"The source raised {error!r}.") from error
            raise error
        raise StopIteration

    def close(self) -> None:
        """End the task as disconnected, unless it has ended, and hang up."""
        self._is_over = True
        self._task.end(EndReason.DISCONNECTED)
        # After a stop the last bytes are out by now, so hang up without waiting for
        # the stop's own thread.
        self._source.close()

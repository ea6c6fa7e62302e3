"""The stream that a server reads, and that ends its task."""

import queue
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn, TypeVar, cast

from flask_chatstop.backends import EndReason
from flask_chatstop.errors import ChatStopError
from flask_chatstop.pump import End, Pump

if TYPE_CHECKING:
    from flask_chatstop.tasks import GenerationTask

T = TypeVar("T")


class ChunkStream(Iterator[T]):
    """The reader's side of a ``Pump``, and the one who ends the task.

    Ends when the source does, when the task is stopped, or by :meth:`close`, which a
    WSGI server calls when the client has left. Raises the source's own error.
    """

    def __init__(
        self, task: "GenerationTask", pump: Pump[T], heartbeat: float | None
    ) -> None:
        self._task = task
        self._pump = pump
        self._heartbeat = heartbeat
        self._is_started = self._is_over = False

    def __next__(self) -> T:
        if not self._is_started:
            self._start()
        if self._is_over:
            raise StopIteration
        if self._task.stopped:
            self._finish(EndReason.STOPPED)
        try:
            item = self._pump.items.get(timeout=self._heartbeat)
        except queue.Empty:
            return cast(T, None)
        if self._task.stopped:
            self._finish(EndReason.STOPPED)
        if isinstance(item, End):
            failed = item.error is not None
            reason = EndReason.FAILED if failed else EndReason.FINISHED
            self._finish(reason, item.error)
        return item

    def _start(self) -> None:
        self._is_started = True
        if not self._task.stopped:
            try:
                self._pump.start()
            except RuntimeError as error:
                self._finish(EndReason.FAILED, error)

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
        # After a stop the last bytes are out: its thread need not be waited for.
        self._pump.close()

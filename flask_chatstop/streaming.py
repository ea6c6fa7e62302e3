"""Reading a source in a helper thread, so that a stop never waits for it."""

import contextvars
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar, cast

from flask import Flask

from flask_chatstop.backends import EndReason
from flask_chatstop.chunk_queue import ChunkQueue
from flask_chatstop.errors import ChatStopError
from flask_chatstop.upstream import hang_up

if TYPE_CHECKING:
    from flask_chatstop.tasks import GenerationTask

logger = logging.getLogger(__name__)

T = TypeVar("T")


class _End:
    """The last item of a queue: the source has ended, perhaps with an error."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class Pump(Generic[T]):
    """The helper thread that reads a source into a bounded queue.

    Knows nothing of the task, so that a task nobody holds can be collected while its
    source is silent.

    :param upstream: the response to hang up on, or a callable that gives the one
        being read at the moment; the source itself unless given.
    :param app: whose context the source is read in; its teardown runs when the source
        has ended, so that a database session of the source's is given back.
    :raises TypeError: the source is not iterable.
    """

    def __init__(
        self,
        chunks: Iterable[T],
        upstream: object | Callable[[], object],
        app: Flask,
    ) -> None:
        if not isinstance(chunks, Iterable):
            raise TypeError(
                f"A source is a plain iterable, which {type(chunks).__name__} is not;"
                " use the synchronous client of the model provider."
            )
        self._chunks = chunks
        self._app = app
        self._upstream = chunks if upstream is None else upstream
        self._context = contextvars.copy_context()
        self._pid = os.getpid()
        self.items: ChunkQueue[T | _End] = ChunkQueue()
        self._lock = threading.Lock()
        self._started = self._closed = self._exhausted = False

    def start(self) -> None:
        """Begin to read, unless :meth:`close` came first.

        :raises RuntimeError: there are too many threads.
        """
        with self._lock:
            if self._started or self._closed:
                return
            # Under the lock: close() must know whether a thread will close the source.
            threading.Thread(
                target=self._context.run,
                args=(self._run,),
                name="chatstop_read",
                daemon=True,
            ).start()
            self._started = True

    def wake(self) -> None:
        """Wake the reader, who then sees that its task is over."""
        self.items.put(_End())

    def close(self) -> None:
        """Hang up on the upstream and have the source closed in its own thread.

        Done once, and not by a forked child, whose parent reads on.
        """
        if self._pid != os.getpid():
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            started = self._started
        if not self._exhausted:
            self._hang_up()
        self.wake()
        self.items.unbind()
        if not started:
            self._close_source()

    def _upstream_now(self) -> object:
        return self._upstream() if callable(self._upstream) else self._upstream

    def _hang_up(self) -> None:
        try:
            hang_up(self._upstream_now())
        except Exception:  # the upstream is the app's object, and the end goes on
            logger.exception("Could not hang up on the upstream.")

    def _run(self) -> None:
        with self._app.app_context():
            self._read()

    def _read(self) -> None:
        items = self.items
        error: BaseException | None = None
        try:
            for chunk in self._chunks:
                if self._closed:
                    break
                items.put(chunk)
                items.wait_for_space()
        except BaseException as caught:
            error = caught
        self._exhausted = not self._closed
        items.put(_End(error))
        if not self._exhausted:
            # The upstream may not have been there when the stream was closed.
            self._hang_up()
        self._close_source()

    def _close_source(self) -> None:
        for get in (lambda: self._chunks, self._upstream_now):
            try:
                close = getattr(get(), "close", None)
                if callable(close):
                    close()
            except Exception as error:  # it is over, whatever the source makes of it
                logger.debug("Closing the source raised %r.", error)


class ChunkStream(Iterator[T]):
    """The reader's side of a :class:`Pump`, and the one who ends the task.

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
        if isinstance(item, _End):
            reason = EndReason.FAILED if item.error else EndReason.FINISHED
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
        self._task.end(reason, error)
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

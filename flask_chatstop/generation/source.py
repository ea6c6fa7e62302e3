"""Reading a source in a thread of its own."""

import threading
from collections.abc import Iterable
from typing import Any, TypeVar

from flask_chatstop.errors import SourceStopped
from flask_chatstop.generation.reader import Reader, SourceEnd
from flask_chatstop.generation.watch import FindFrame, frame_finder, watch_thread
from flask_chatstop.logs import get_logger
from flask_chatstop.threads import pass_on_interrupt
from flask_chatstop.upstream import cleanup

logger = get_logger(__name__)

T = TypeVar("T")


class SourceReader(Reader[T]):
    """Reads a source in a thread of its own."""

    __slots__ = ("_chunks", "_find_frame")

    def __init__(self, chunks: Iterable[T], *arguments: Any, **options: Any) -> None:
        self._chunks = chunks
        self._find_frame: FindFrame | None = None
        super().__init__(chunks, *arguments, **options)

    def _begin(self) -> None:
        threading.Thread(
            target=self._context.run,
            args=(self._run,),
            name="chatstop_read",
            daemon=True,
        ).start()

    def _end_calls(self) -> None:
        self._calls.cut()

    def _close_unread(self) -> None:
        self._close_source()
        self._leave()

    def _watch(self) -> None:
        if self._find_frame is not None:
            watch_thread(
                self._name, self._find_frame, self._calls, self._wait_until_gone
            )

    def _run(self) -> None:
        self._find_frame = frame_finder()
        try:
            self._bind()
            with self._app.app_context():
                self._read()
        except BaseException as error:  # the app's, as its context began or ended
            pass_on_interrupt(error)
            logger.exception("The app context of a source failed.")
            self.items.put(SourceEnd(error))
        finally:
            self._leave()

    def _read(self) -> None:
        items = self.items
        error: BaseException | None = None
        try:
            for chunk in self._chunks:
                items.put(chunk)
                items.wait_for_space()
                if self._closed:
                    break
        except BaseException as caught:
            error = caught
            pass_on_interrupt(error)
        self._is_over = True
        items.put(SourceEnd(error))
        if self._closed:
            # It may not have existed yet when the stream was closed.
            self._upstream.hang_up()
            # What the source does in a `finally` is its cleanup.
            cleanup.begin(self._calls)
        self._close_source()

    def _close_source(self) -> None:
        for get in (lambda: self._chunks, self._upstream.now):
            try:
                close = getattr(get(), "close", None)
                if callable(close):
                    close()
            except (Exception, SourceStopped) as error:  # it is over all the same
                logger.debug("Closing the source raised %r.", error)

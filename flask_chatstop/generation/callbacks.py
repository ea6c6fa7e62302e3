"""What an app registers to be told of the moments of a task."""

from collections.abc import Callable
from typing import Any, TypeVar

from flask_chatstop.checks import check_callable, check_returned
from flask_chatstop.generation.at_work import TaskAtWork
from flask_chatstop.generation.end import GenerationEnd
from flask_chatstop.generation.reader import Reader
from flask_chatstop.logs import get_logger
from flask_chatstop.upstream.calls import Calls

logger = get_logger(__name__)

T = TypeVar("T")


class TaskWithCallbacks(TaskAtWork):
    """A task that tells of its stop, its end, and the end of its source."""

    def __init__(self, calls: Calls) -> None:
        super().__init__(calls)
        self._source: Reader[Any] | None = None
        # Tuples: an empty one takes no memory.
        self._on_stop: tuple[Callable[[], object], ...] = ()
        self._on_end: tuple[Callable[[GenerationEnd], object], ...] = ()
        self._on_source_end: tuple[Callable[[], object], ...] = ()

    @property
    def has_on_end(self) -> bool:
        """Whether the app is told of the end."""
        return bool(self._on_end)

    def on_stop(self, callback: Callable[[], T]) -> Callable[[], T]:
        """Have ``callback()`` called when the task is stopped, at once if it was.

        It runs in a thread of its own, or in the caller's if the stop came before,
        without an app context. What it raises is logged. May be used as a decorator.

        :raises TypeError: it cannot be called.
        """
        check_callable("on_stop", callback)
        self._calls.has_other_upstream = True
        with self._lock:
            if not self._stopped:
                self._on_stop += (callback,)
                return callback
        with self.shield():  # it may be called in the source, and cancel by HTTP
            self._call_on_stop(callback)
        return callback

    def on_end(
        self, callback: Callable[[GenerationEnd], T]
    ) -> Callable[[GenerationEnd], T]:
        """Have ``callback(end)`` called once when the generation has ended.

        It runs with the app context pushed, in the thread that saw the end, before
        the client is told of it. What it raises is logged. May be used as a
        decorator.

        :raises RuntimeError: the generation has ended already.
        :raises TypeError: it cannot be called with one argument.
        """
        check_callable("on_end", callback, 1)
        with self._lock:
            if self._end_reason is not None:
                raise RuntimeError(
                    f"Task {self.id!r} has ended; register on_end before."
                )
            self._on_end += (callback,)
        return callback

    def on_source_end(self, callback: Callable[[], T]) -> Callable[[], T]:
        """Have ``callback()`` called once when the source is really over.

        A stop ends the stream at once, and ``on_end`` is called then. The source may
        work on, in a tool or in a ``finally``. This is called after its last line,
        with an app context pushed, and at once if the source is over. What it raises
        is logged. May be used as a decorator.

        :raises TypeError: it is not callable.
        """
        check_callable("on_source_end", callback)
        with self._lock:
            source = self._source
            if source is None:
                self._on_source_end += (callback,)
                return callback
        source.when_gone(callback)
        return callback

    def _call_on_stop(self, callback: Callable[[], object]) -> None:
        try:
            check_returned("on_stop", callback())
        except Exception:
            logger.exception("on_stop of task %r failed.", self.id)

"""The threads that an event loop looks up hosts in, and runs what blocks."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class LoopPool(ThreadPoolExecutor):
    """Goes on, without threads, when the process exits.

    A pool takes no more work then, and newer Pythons start no thread. The cleanup of a
    source needs both: ``getaddrinfo()`` to connect to where it saves, and
    ``asyncio.to_thread()``.
    """

    _has_threads = True

    def end_threads(self) -> None:
        """Run in the caller's thread whatever is submitted from now on."""
        self._has_threads = False

    def submit(
        self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> "Future[T]":
        if self._has_threads:
            return super().submit(function, *args, **kwargs)
        future: Future[T] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future

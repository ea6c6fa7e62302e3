"""What code can do with the task that it works for: a source, a view, a thread."""

import abc
import inspect
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from functools import wraps
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

from flask_chatstop.backends import EndReason
from flask_chatstop.errors import SourceStopped
from flask_chatstop.generation.answer import Answer
from flask_chatstop.upstream import cleanup, hooks
from flask_chatstop.upstream.calls import Binding, Calls, bind, binding, bound, restore

P = ParamSpec("P")
T = TypeVar("T")

# What this context worked for before each `with task:` that it is in.
_outer: ContextVar[tuple[Binding | None, Any] | None] = ContextVar(
    "chatstop_outer", default=None
)


class TaskAtWork(abc.ABC):
    """A task as the code sees it that works for its answer."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        # Reentrant: the garbage collector may run an app's own `finally: task.end()`
        # in the thread that holds it.
        self._lock = calls.lock
        self._stopped = False
        self._end_reason: EndReason | None = None
        self._unwanted: threading.Event | None = None
        self._answer = Answer()

    @property
    @abc.abstractmethod
    def id(self) -> str:
        """The task id, which the client sends to stop it."""

    @property
    def end_reason(self) -> EndReason | None:
        """How the generation ended, ``None`` while it runs."""
        return self._end_reason

    @abc.abstractmethod
    def _stopped_error(self) -> Exception:
        """Return what a view is told of a stop by."""

    @property
    def stopped(self) -> bool:
        """Whether somebody has asked the task to stop, or its time limit is over."""
        if self._stopped and self._is_at_work:
            # Who looks will clean up next, and may save what there is.
            cleanup.note_seen(self._calls)
        return self._stopped

    @property
    def _is_at_work(self) -> bool:
        """Whether this thread or asyncio task works for the task."""
        here = bound()
        return here is not None and here.calls is self._calls

    @property
    def _is_unwanted(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self._stopped or self._end_reason not in (None, EndReason.FINISHED)

    @property
    def answer(self) -> Answer:
        """What has been sent of the answer, for those that send it."""
        return self._answer

    def report_usage(self, usage: object) -> None:
        """Report how many tokens the answer has used, as the model says.

        ::

            for chunk in stream:
                current_task.report_usage(chunk.usage)

        ``on_end`` gets it as the ``usage`` of its :class:`GenerationEnd`. A later
        report adds to an earlier one and replaces figures of the same name. ``None``
        adds and replaces nothing, be it a figure or the whole usage.

        :param usage: a mapping, or the usage object of a model's library.
        :raises TypeError: it is neither.
        """
        self._answer.report_usage(usage)

    def raise_if_stopped(self) -> None:
        """Leave work that nobody waits for any more.

        :raises TaskStopped: somebody has asked the task to stop.
        :raises SourceStopped: the same in the source of the task, and also after its
            client has left.
        """
        here = bound()
        is_source = here is not None and here.calls is self._calls and not here.in_view
        if is_source and self._is_unwanted:
            self._calls.tell()
        if self._stopped:
            raise self._stopped_error()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nobody waits for the answer any more, instead of sleeping.

        ::

            while not machine.is_ready():
                if task.wait(1.0):
                    return

        :param timeout: seconds; without one it waits for as long as it takes.
        :returns: whether the task was stopped or has ended, as when its client left.
        """
        with self._lock:
            if self._unwanted is None:
                self._unwanted = threading.Event()
            if self._is_unwanted:
                self._unwanted.set()
        is_over = self._unwanted.wait(timeout)
        if is_over and self._is_at_work:
            cleanup.note_seen(self._calls)
        return is_over

    def __enter__(self) -> Self:
        """Let a view work for the task: a stop ends the calls that are made here.

        ::

            with task:
                reply = client.chat.completions.create(..., stream=True)

        :raises TaskStopped: on leaving, if a call here was cut or refused.
        """
        if self._calls.is_tracking:
            hooks.install()
        before = bind(self._calls, in_view=True)
        _outer.set((before, _outer.get()))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        before, outer = _outer.get() or (None, None)
        _outer.set(outer)
        restore(before)
        if _is_stop(exc):
            # Flask handles no BaseException.
            raise self._stopped_error() from exc

    def bind(self, function: Callable[P, T]) -> Callable[P, T]:
        """Return a function that works for the task, for a thread of the app.

        ::

            Thread(target=task.bind(work)).start()

        Only a thread that works for the task has its calls hung up on. The thread of
        the source does, and one that copies its context. A plain thread does not.

        Where the task is stopped, the function raises ``SourceStopped`` if it was bound
        in the source, and :class:`TaskStopped` if it was bound in a view.

        :raises TypeError: it is a generator function.
        """
        calls = self._calls
        if calls.is_tracking:
            hooks.install()
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(
            function
        ):
            raise TypeError("bind() takes a function that returns, not a generator.")
        here = bound()
        in_source = here is not None and here.calls is calls and not here.in_view

        @wraps(function)
        def bound_function(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                with binding(calls):
                    return function(*args, **kwargs)
            except SourceStopped as stopped:
                if in_source:
                    raise
                # A pool raises it in the view, and Flask handles no BaseException.
                raise self._stopped_error() from stopped

        async def bound_coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
            with binding(calls):
                return await cast(Any, function(*args, **kwargs))

        if inspect.iscoroutinefunction(function):
            return cast(Callable[P, T], wraps(function)(bound_coroutine))
        return bound_function

    def shield(self) -> AbstractContextManager[None]:
        """Let calls pass that a stop is not to touch, like saving a partial answer.

        ::

            with task.shield():
                requests.put(url, json={"text": text})
        """
        return binding(self._calls, is_shielded=True)


def _is_stop(error: BaseException | None) -> bool:
    if isinstance(error, BaseExceptionGroup):  # of asyncio's and anyio's task groups
        return error.subgroup(SourceStopped) is not None
    return isinstance(error, SourceStopped)

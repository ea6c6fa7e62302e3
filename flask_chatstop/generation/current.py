"""The task that the current thread or asyncio task works for."""

from typing import TYPE_CHECKING, cast

from werkzeug.local import LocalProxy

from flask_chatstop.generation.task import GenerationTask
from flask_chatstop.upstream.calls import bound

_UNBOUND = """\
No task is at work here. current_task is known in the source of a task, in a view within
`with task:`, and in a thread that task.bind() was used for. A thread that copies no
context does not know it. Use current_task.or_none() for code that also runs without."""


def _task() -> GenerationTask:
    task = _or_none()
    if task is None:
        raise RuntimeError(_UNBOUND)
    return task


def _or_none() -> GenerationTask | None:
    here = bound()
    return None if here is None else cast(GenerationTask | None, here.calls.task())


class _CurrentTask(LocalProxy[GenerationTask]):
    """Stands for the task at hand, wherever it is used."""

    __slots__ = ()

    def or_none(self) -> GenerationTask | None:
        """Return the task at hand, ``None`` where there is none."""
        return _or_none()


if TYPE_CHECKING:

    class CurrentTask(GenerationTask):
        """The task at hand, and whether there is one."""

        def or_none(self) -> GenerationTask | None: ...


#: The task that the current thread or asyncio task works for. Raises ``RuntimeError``
#: where there is none; ``current_task.or_none()`` returns ``None`` there.
current_task = cast("CurrentTask", _CurrentTask(_task))

"""Looking at the insides of a library before hooking into them."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

#: A class, the name of one of its methods, and what makes the new method of the old.
Hook = tuple[Any, str, Callable[[Callable[..., Any]], Callable[..., Any]]]


class UnknownShape(Exception):
    """The insides of a library are not as known."""


def expect(
    owner: Any,
    method: str,
    parameters: Sequence[str] | None = None,
    *,
    sets: str | None = None,
) -> None:
    """Make sure that a class has a method like the one that a hook was written for.

    :param parameters: what the names of its parameters begin with.
    :param sets: the name of an attribute that its code mentions.
    :raises UnknownShape: it has none.
    """
    name = f"{getattr(owner, '__name__', owner)}.{method}"
    function = getattr(owner, method, None)
    if not inspect.isfunction(function):
        raise UnknownShape(f"no {name}()")
    if parameters is not None:
        found = list(inspect.signature(function).parameters)[: len(parameters)]
        if found != list(parameters):
            raise UnknownShape(f"{name}({', '.join(found)}, ...)")
    if sets is not None and sets not in inspect.unwrap(function).__code__.co_names:
        raise UnknownShape(f"{name}() does not know {sets}")

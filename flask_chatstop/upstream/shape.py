"""Looking at the insides of a library before hooking into them."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

#: A class, the name of one of its methods, and what makes the new method of the old.
Hook = tuple[Any, str, Callable[[Callable[..., Any]], Callable[..., Any]]]


_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


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

    :param parameters: the names of its first parameters; the others have defaults.
    :param sets: the name of an attribute that its code mentions.
    :raises UnknownShape: it has none.
    """
    name = f"{getattr(owner, '__name__', owner)}.{method}"
    function = getattr(owner, method, None)
    if not inspect.isfunction(function):
        raise UnknownShape(f"no {name}()")
    if parameters is not None:
        found = inspect.signature(function).parameters.values()
        known, more = list(found)[: len(parameters)], list(found)[len(parameters) :]
        needed = [x for x in more if x.default is x.empty and x.kind not in _VARIABLE]
        if [x.name for x in known] != list(parameters) or needed:
            raise UnknownShape(f"{name}{inspect.signature(function)}")
    if sets is not None and sets not in inspect.unwrap(function).__code__.co_names:
        raise UnknownShape(f"{name}() does not know {sets}")

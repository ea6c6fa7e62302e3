"""Checks of values that come from a configuration or from a client."""

import inspect
import re
from typing import TypeGuard

from flask_chatstop.errors import ConfigurationError

#: Characters that a user, a task id or an app's name may have.
MAX_ID = 255

_SURROGATE = re.compile("[\ud800-\udfff]")


def is_id(value: object) -> TypeGuard[str]:
    """Tell whether a value is a valid user, task id or app name in every store.

    Valid are strings of 1 to :data:`MAX_ID` characters without NUL and without lone
    surrogates: PostgreSQL stores no NUL, and UTF-8 has no surrogates.
    """
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID or "\0" in value:
        return False
    return value.isascii() or not _SURROGATE.search(value)


def is_task_id(value: object) -> TypeGuard[str]:
    """Tell whether a value is an id that the URL of a stop can carry.

    Clients and proxies resolve ``.`` and ``..``, and many decode ``%2F``: such a stop
    would never arrive.
    """
    return (
        is_id(value)
        and value not in (".", "..")
        and "/" not in value
        and "%2f" not in value.lower()
    )


def seconds(name: str, value: object) -> float:
    """Return a number of seconds from a configuration.

    :param name: the setting, for the error message.
    :raises ConfigurationError: the value is not a number from a millisecond to a year.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(f"{name} is {value!r}; set it to a number of seconds.")
    if not 0.001 <= value <= 31_536_000:
        raise ConfigurationError(
            f"{name} is {value!r}; set it to seconds, from 0.001 to 31536000."
        )
    return float(value)


def check_callable(name: str, callback: object, arguments: int = 0) -> None:
    """Refuse a callback that cannot be called with so many positional arguments.

    An async function and a generator function are refused too: calling them does
    nothing.

    :param name: of the parameter, for the error message.
    :raises TypeError: it is refused.
    """
    if not callable(callback):
        raise TypeError(f"{name} is a {type(callback).__name__}; give it a function.")
    if any(map(_does_nothing, (callback, type(callback).__call__))):
        raise TypeError(_unrun(name, callback))
    try:
        signature = inspect.signature(callback)
    except (TypeError, ValueError):  # some of those that are written in C have none
        return
    try:
        signature.bind(*[None] * arguments)
    except TypeError as error:
        called = getattr(callback, "__name__", type(callback).__name__)
        expected = ["no argument", "one argument"][arguments]
        raise TypeError(
            f"{name} is called with {expected}, which {called}{signature} does not"
            f" accept: {error}."
        ) from None


def check_returned(name: str, returned: object) -> None:
    """Close and refuse a coroutine that a callback has returned: it did not run.

    :param name: of the parameter, for the error message.
    :raises TypeError: the callback has returned a coroutine.
    """
    if inspect.iscoroutine(returned):
        returned.close()
        raise TypeError(_unrun(name, returned))


def _does_nothing(callback: object) -> bool:
    """Tell whether a call only makes a coroutine or a generator, and runs no line."""
    return (
        inspect.iscoroutinefunction(callback)
        or inspect.isgeneratorfunction(callback)
        or inspect.isasyncgenfunction(callback)
    )


def _unrun(name: str, callback: object) -> str:
    called = getattr(callback, "__name__", type(callback).__name__)
    return (
        f"{name} is only called, and {called} is async or a generator: its code would"
        " not run. Give it a plain function, which may call asyncio.run()."
    )


def byte_count(name: str, value: object) -> int:
    """Return a number of bytes.

    :raises ConfigurationError: it is none, or below 1.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(
            f"{name} is {value!r}; set it to a number of bytes above 0."
        )
    return value

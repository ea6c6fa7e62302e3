"""Refusing what is not a source, before anything is sent."""

import inspect
from collections.abc import AsyncIterable, Iterable, Mapping

from werkzeug.wrappers import Response


def check_source(source: object) -> None:
    """Refuse what cannot be read, and what can but is never meant as a source.

    Python iterates over a text by letters and over a mapping by keys. A whole answer of
    a model's library, which is a pydantic model, yields its fields.

    :raises TypeError: it is refused; says what to give instead.
    """
    name = type(source).__name__
    if isinstance(source, str):
        raise TypeError(
            "The source is a str, which would be sent letter by letter; give a list of"
            " chunks, like [text]."
        )
    if isinstance(source, bytes | bytearray | memoryview):
        raise TypeError(
            f"The source is {name}, which would be read number by number; give a list"
            " of strings, like [data.decode()]."
        )
    if isinstance(source, Mapping):
        raise TypeError(
            f"The source is a {name}, of which only the keys would be read; give a list"
            " that it is in, or its values()."
        )
    if _yields_its_fields(source):
        raise TypeError(
            f"The source is a {name}, which is a whole answer and no stream; ask the"
            " model with stream=True, or give a list with the text of the answer."
        )
    if not isinstance(source, Iterable | AsyncIterable):
        raise TypeError(
            f"A source must be an iterable or an async iterable, and {name} is neither"
            f"{_advice(source)}."
        )


def _yields_its_fields(source: object) -> bool:
    """Return whether it is a pydantic model that has no iteration of its own."""
    iterate = getattr(type(source), "__iter__", None)
    by_pydantic = getattr(iterate, "__module__", "") == "pydantic.main"
    return by_pydantic and not isinstance(source, AsyncIterable)


def _advice(source: object) -> str:
    if source is None:
        return "; let the function that makes it yield the chunks, or return them"
    if isinstance(source, Response):
        return "; give the chunks of the answer, of which the response is made"
    if inspect.isawaitable(source):
        return "; await it in an async generator, and give that"
    if not callable(source):
        return ""
    called = getattr(source, "__name__", None)
    call = f"call it: {called}()" if called else "call it"
    if inspect.iscoroutinefunction(source):
        return f"; {call} and await that in an async generator, and give the generator"
    return f"; {call}"

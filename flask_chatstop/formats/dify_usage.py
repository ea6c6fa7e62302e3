"""The usage in Dify's answers: twelve fields, all required by typed clients."""

from decimal import Decimal

from flask_chatstop.generation.usage import as_mapping, usage_of

#: The fields, with the value of each if nothing is known. Prices are strings.
_UNKNOWN: dict[str, object] = {
    "prompt_tokens": 0,
    "prompt_unit_price": "0",
    "prompt_price_unit": "0",
    "prompt_price": "0",
    "completion_tokens": 0,
    "completion_unit_price": "0",
    "completion_price_unit": "0",
    "completion_price": "0",
    "total_tokens": 0,
    "total_price": "0",
    "currency": "USD",
    "latency": 0.0,
}


def dify_usage(usage: object = None, *, latency: float = 0.0) -> dict[str, object]:
    """Return the twelve fields of ``metadata.usage``, each of the type that Dify sends.

    For an answer in blocking mode: in a stream, ``DifyEvents`` sends them by itself.

    :param usage: a mapping with figures and prices, or what the libraries of OpenAI,
        Anthropic and Google call the usage of their answer.
    :param latency: seconds that the answer took, unless the usage has it.
    :raises TypeError: the usage holds no figures.
    """
    given = {} if usage is None else as_mapping(usage)
    if not given:  # a client waits for the end of a stopped answer
        return {**_UNKNOWN, "latency": round(latency, 3)}
    named = {name: given[name] for name in _UNKNOWN if given.get(name) is not None}
    fields = {**_UNKNOWN, "latency": round(latency, 3), **named}
    known = usage_of(given)
    figures = {
        "prompt_tokens": known.prompt_tokens,
        "completion_tokens": known.completion_tokens,
        "total_tokens": known.total_tokens,
    }
    fields |= {name: value for name, value in figures.items() if value is not None}
    return {name: _as_type_of(_UNKNOWN[name], value) for name, value in fields.items()}


def _as_type_of(unknown: object, value: object) -> object:
    """Return a value in the type that its field has if nothing is known."""
    if isinstance(unknown, str):
        # Not 1e-06, which a client that shows the price would show.
        number = isinstance(value, float | Decimal)
        return format(Decimal(str(value)), "f") if number else str(value)
    try:
        return float(str(value)) if isinstance(unknown, float) else int(str(value))
    except ValueError:
        return unknown  # an invalid figure must not keep the end from the client

"""The usage in Dify's answers: twelve fields, which typed clients insist on."""

from decimal import Decimal

from flask_chatstop.generation.usage import as_mapping, usage_of

#: What stands there where nothing is known. Prices are strings.
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

    ``DifyEvents`` sends them by itself. This is for an answer in blocking mode.

    :param usage: a mapping with figures and prices, or what the libraries of OpenAI,
        Anthropic and Google call the usage of their answer.
    :param latency: seconds that the answer took, unless the usage has it.
    :raises TypeError: the usage holds no figures.
    """
    given = {} if usage is None else as_mapping(usage)
    named = {name: given[name] for name in _UNKNOWN if given.get(name) is not None}
    fields = {**_UNKNOWN, "latency": round(latency, 3), **named}
    known = usage_of(given)
    figures = {
        "prompt_tokens": known.prompt_tokens,
        "completion_tokens": known.completion_tokens,
        "total_tokens": known.total_tokens,
    }
    fields |= {name: value for name, value in figures.items() if value is not None}
    return {name: _as_in(_UNKNOWN[name], value) for name, value in fields.items()}


def _as_in(sent: object, value: object) -> object:
    """Return a value as the type that is sent in its place."""
    if isinstance(sent, str):
        # Not 1e-06, which a client that shows the price would show.
        number = isinstance(value, float | Decimal)
        return format(Decimal(str(value)), "f") if number else str(value)
    try:
        return float(str(value)) if isinstance(sent, float) else int(str(value))
    except ValueError:
        return sent  # a figure that is none must not take the end from the client

"""The usage in Dify's ``message_end``: twelve fields, which typed clients insist on."""

from flask_chatstop.generation.end import GenerationEnd
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


def dify_usage(given: object, end: GenerationEnd) -> dict[str, object]:
    """Return the usage of an answer as Dify sends it.

    :param given: the app's own figures, which win over what the source has reported.
    :raises TypeError: they are no figures.
    """
    own = {} if given is None else as_mapping(given)
    reported = end.usage.reported
    usage: dict[str, object] = {**_UNKNOWN, "latency": round(end.duration, 3)}
    usage |= {name: reported[name] for name in _UNKNOWN if name in reported}
    usage |= own
    known = usage_of({**reported, **own})
    figures = {
        "prompt_tokens": known.prompt_tokens,
        "completion_tokens": known.completion_tokens,
        "total_tokens": known.total_tokens,
    }
    usage |= {name: value for name, value in figures.items() if value is not None}
    for name, unknown in _UNKNOWN.items():
        if isinstance(unknown, str):
            usage[name] = str(usage[name])  # a Decimal or a float of the app's
    return usage

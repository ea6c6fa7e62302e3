"""What an answer has cost: as the source reports it, else what was sent."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral

#: The names that the libraries of models use for one figure.
_PROMPT = (
    "prompt_tokens",
    "input_tokens",
    "prompt_token_count",
    "inputTokens",
    "promptTokenCount",
)
_COMPLETION = (
    "completion_tokens",
    "output_tokens",
    "candidates_token_count",
    "outputTokens",
    "candidatesTokenCount",
)
_TOTAL = ("total_tokens", "total_token_count", "totalTokens", "totalTokenCount")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What an answer has used.

    A provider sends the usage at the end of its stream, so there is none of an answer
    that was stopped or has failed. :attr:`is_estimate` is true then, and all that is
    known is what was sent to the client.

    :param prompt_tokens: as the source reported, else ``None``; the same for
        ``completion_tokens`` and ``total_tokens``.
    :param characters: of the text that was sent.
    :param chunks: how many chunks were sent. Most providers send a token or a few in
        each.
    :param reported: everything that the source reported, by name.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    characters: int = 0
    chunks: int = 0
    reported: Mapping[str, object] = field(default_factory=dict)

    @property
    def is_estimate(self) -> bool:
        """Whether the source has not reported the tokens of the answer."""
        return self.completion_tokens is None


def usage_of(
    reported: Mapping[str, object], *, characters: int = 0, chunks: int = 0
) -> Usage:
    """Return the usage with the figures that are among the reported ones."""
    if not reported:
        return Usage(characters=characters, chunks=chunks)
    prompt, completion = _figure(reported, _PROMPT), _figure(reported, _COMPLETION)
    total = _figure(reported, _TOTAL)
    if total is None and prompt is not None and completion is not None:
        total = prompt + completion
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=total,
        characters=characters,
        chunks=chunks,
        reported=reported,
    )


def as_mapping(usage: object) -> dict[str, object]:
    """Return what a source reports as a mapping of names.

    :param usage: a mapping, or an object with the figures as attributes, like those of
        the libraries of OpenAI, Anthropic and Google.
    :raises TypeError: it is neither.
    """
    if isinstance(usage, Mapping):
        return {str(name): value for name, value in usage.items()}
    dump = getattr(usage, "model_dump", None)  # they are pydantic models
    if callable(dump):
        return as_mapping(dump())
    names = (*_PROMPT, *_COMPLETION, *_TOTAL)
    found = {name: getattr(usage, name) for name in names if hasattr(usage, name)}
    if not found:
        raise TypeError(
            f"A {type(usage).__name__} has no token figures; report a mapping like"
            ' {"prompt_tokens": 12, "completion_tokens": 34}.'
        )
    return found


def _figure(reported: Mapping[str, object], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = reported.get(name)
        if isinstance(value, bool):
            continue
        # Also an integer of numpy, and 12.0 of another language's JSON.
        if isinstance(value, Integral) or (
            isinstance(value, float) and value.is_integer()
        ):
            return int(value)
    return None

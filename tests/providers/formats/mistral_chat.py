"""Mistral's chat completions: https://docs.mistral.ai/api."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from tests.providers.formats.sse import CONTENT_TYPE, event

__all__ = ["CONTENT_TYPE", "PATH", "parts"]

# The real one's path is OpenAI's; its server differs.
PATH = re.compile(r"^/mistral/v1/chat/completions$")


def parts(body: dict[str, Any], tokens: Iterable[str]) -> Iterator[bytes]:
    yield _chunk({"role": "assistant", "content": ""})
    for token in tokens:
        yield _chunk({"content": token})
    usage = {"prompt_tokens": 1, "total_tokens": 4, "completion_tokens": 3}
    yield _chunk({"content": ""}, finish_reason="stop", usage=usage)
    yield b"data: [DONE]\n\n"


def _chunk(
    delta: dict[str, object], finish_reason: str | None = None, **more: object
) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return event(
        {
            "id": "cmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "loopback",
            "choices": [choice],
            **more,
        }
    )

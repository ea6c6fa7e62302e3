"""Google's Gemini API: https://ai.google.dev/api/generate-content."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from tests.providers.formats import sse

__all__ = ["CONTENT_TYPE", "PATH", "parts"]

PATH = re.compile(r"^/v1(beta)?/models/[^/]+:streamGenerateContent\?alt=sse$")
CONTENT_TYPE = "text/event-stream"


def parts(body: dict[str, Any], tokens: Iterable[str]) -> Iterator[bytes]:
    for token in tokens:
        yield _chunk(token)
    yield _chunk("", finishReason="STOP")


def _chunk(text: str, **more: object) -> bytes:
    content = {"parts": [{"text": text}], "role": "model"}
    usage = {"promptTokenCount": 1, "totalTokenCount": 1}
    return sse.event(
        {
            "candidates": [{"content": content, "index": 0, **more}],
            "usageMetadata": usage,
            "modelVersion": "loopback",
            "responseId": "resp_1",
        }
    )

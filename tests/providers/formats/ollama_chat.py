"""Ollama's chat, a JSON object a line: https://docs.ollama.com/api/chat."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

PATH = re.compile(r"^/api/chat$")
CONTENT_TYPE = "application/x-ndjson"


def parts(body: dict[str, Any], tokens: Iterable[str]) -> Iterator[bytes]:
    for token in tokens:
        yield _line(token, done=False)
    yield _line("", done=True, done_reason="stop", eval_count=3)


def _line(content: str, **more: object) -> bytes:
    line = {
        "model": "loopback",
        "created_at": "2025-01-01T00:00:00Z",
        "message": {"role": "assistant", "content": content},
        **more,
    }
    return json.dumps(line).encode() + b"\n"

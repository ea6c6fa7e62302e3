"""Anthropic's messages: https://docs.anthropic.com/en/api/messages-streaming."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from tests.providers.formats.sse import CONTENT_TYPE, event

__all__ = ["CONTENT_TYPE", "PATH", "parts"]

PATH = re.compile(r"/v1/messages$")


def parts(body: dict[str, Any], tokens: Iterable[str]) -> Iterator[bytes]:
    message: dict[str, object] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "loopback",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    yield _event("message_start", message=message)
    block = {"type": "text", "text": ""}
    yield _event("content_block_start", index=0, content_block=block)
    yield _event("ping")
    for token in tokens:
        delta = {"type": "text_delta", "text": token}
        yield _event("content_block_delta", index=0, delta=delta)
    yield _event("content_block_stop", index=0)
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    yield _event("message_delta", delta=end, usage={"output_tokens": 3})
    yield _event("message_stop")


def _event(kind: str, **fields: object) -> bytes:
    return event({"type": kind, **fields}, kind)

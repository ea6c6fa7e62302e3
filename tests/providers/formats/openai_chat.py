"""OpenAI's chat completions: https://platform.openai.com/docs/api-reference/chat."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from tests.providers.formats.sse import CONTENT_TYPE, event

__all__ = ["CONTENT_TYPE", "PATH", "parts"]

PATH = re.compile(r"/chat/completions$")


def parts(body: dict[str, Any], tokens: Iterable[str]) -> Iterator[bytes]:
    yield _chunk({"role": "assistant", "content": ""})
    if _wants_a_tool(body):
        yield _chunk({"tool_calls": [_tool_call(body)]})
        yield _chunk({}, "tool_calls")
    else:
        for token in tokens:
            yield _chunk({"content": token})
        yield _chunk({}, "stop")
    yield b"data: [DONE]\n\n"


def _wants_a_tool(body: dict[str, Any]) -> bool:
    """Tell whether an agent asks for the first time: it has not used its tool yet."""
    roles = [message["role"] for message in body["messages"]]
    return "tools" in body and "tool" not in roles


def _tool_call(body: dict[str, Any]) -> dict[str, object]:
    name = body["tools"][0]["function"]["name"]
    function = {"name": name, "arguments": '{"city": "Paris"}'}
    return {"index": 0, "id": "call_1", "type": "function", "function": function}


def _chunk(delta: dict[str, object], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return event(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "loopback",
            "choices": [choice],
        }
    )

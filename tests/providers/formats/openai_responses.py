"""OpenAI's responses: https://platform.openai.com/docs/api-reference/responses."""

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any

from tests.providers.formats.sse import CONTENT_TYPE, event

__all__ = ["CONTENT_TYPE", "PATH", "parts"]

PATH = re.compile(r"/responses$")

_PLACE = {"item_id": "msg_1", "output_index": 0, "content_index": 0}


def parts(body: dict[str, Any], tokens: Iterable[str]) -> Iterator[bytes]:
    numbers = itertools.count()

    def numbered(kind: str, **fields: object) -> bytes:
        return event({"type": kind, "sequence_number": next(numbers), **fields}, kind)

    yield numbered("response.created", response=_response("in_progress"))
    yield numbered("response.in_progress", response=_response("in_progress"))
    item = _message("in_progress")
    yield numbered("response.output_item.added", output_index=0, item=item)
    part = _text("")
    yield numbered("response.content_part.added", **_PLACE, part=part)
    text = ""
    for token in tokens:
        text += token
        delta = {"delta": token, "logprobs": []}
        yield numbered("response.output_text.delta", **_PLACE, **delta)
    done = {"text": text, "logprobs": []}
    yield numbered("response.output_text.done", **_PLACE, **done)
    part = _text(text)
    yield numbered("response.content_part.done", **_PLACE, part=part)
    item = _message("completed", part)
    yield numbered("response.output_item.done", output_index=0, item=item)
    yield numbered("response.completed", response=_response("completed", item))


def _text(text: str) -> dict[str, object]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message(status: str, *content: object) -> dict[str, object]:
    return {
        "id": "msg_1",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def _response(status: str, *output: object) -> dict[str, object]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": "loopback",
        "output": output,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": None,
    }

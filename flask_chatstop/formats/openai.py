"""OpenAI's chat completion chunks, for its client libraries."""

import time
from collections.abc import Mapping
from typing import Any

from flask_chatstop.backends import EndReason
from flask_chatstop.formats.base import FAILED, StreamFormat, json_text, sse_frame
from flask_chatstop.generation.answer import Answer
from flask_chatstop.generation.end import GenerationEnd


class OpenAIChunks(StreamFormat):
    """The ``chat.completion.chunk`` objects of OpenAI's API, then ``[DONE]``.

    The ``id`` of each chunk is the task id. OpenAI has no ``finish_reason`` for a
    stopped answer. It is ``stop``, as for a finished one, and the last chunk also has
    ``chatstop: {"end_reason": "stopped"}``, which the ``openai`` library keeps in
    ``model_extra``. An answer that failed ends with OpenAI's ``error`` object, which
    the library raises as an ``APIError``.

    A chunk that is a mapping is sent as the ``delta``, as for tool calls. An answer
    with ``tool_calls`` finishes with that ``finish_reason``.

    :param model: the name of the model in each chunk.
    :param include_usage: send the usage in a chunk of its own before the end, as
        OpenAI does for ``stream_options={"include_usage": True}``. As there, an answer
        whose usage is unknown has no such chunk: 0 tokens would be wrong.
    """

    def __init__(self, *, model: str = "", include_usage: bool = False) -> None:
        self._model = model
        self._include_usage = include_usage
        self._created = int(time.time())
        self._head = ""
        self._has_tool_calls = False

    def begin(self) -> bytes:
        head = json_text(
            {
                "id": self.task.id,
                "object": "chat.completion.chunk",
                "created": self._created,
                "model": self._model,
            }
        )
        self._head = f'{head[:-1]},"choices":'
        return self._delta({"role": "assistant", "content": ""})

    def chunk(self, chunk: Any) -> bytes:
        if isinstance(chunk, str):
            return self._delta({"content": chunk})
        if isinstance(chunk, Mapping):
            self._has_tool_calls |= bool(chunk.get("tool_calls"))
            return self._delta(dict(chunk))
        raise TypeError(
            "A chunk for OpenAIChunks must be a str or a delta as a mapping, not"
            f" {type(chunk).__name__}."
        )

    def collect(self, chunk: Any, answer: Answer) -> None:
        content = chunk.get("content") if isinstance(chunk, Mapping) else chunk
        if isinstance(content, str):
            answer.text.add(content)

    def ping(self) -> bytes:
        return b": ping\n\n"

    def lost(self) -> bytes:
        return self._frame([], chatstop={"lost": True})

    def end(self, end: GenerationEnd) -> bytes:
        ours: dict[str, object] = {} if end.saved else {"saved": False}
        if end.reason is EndReason.FAILED:
            error = {"message": FAILED, "type": "server_error", "code": None}
            return sse_frame(json_text({"error": {**error, "param": None, **ours}}))
        choice = {"index": 0, "delta": {}, "finish_reason": self._finish_reason(end)}
        last = self._frame([choice], chatstop={"end_reason": end.reason, **ours})
        return last + self._usage(end) + sse_frame("[DONE]")

    def _finish_reason(self, end: GenerationEnd) -> str:
        if end.reason is EndReason.FINISHED:
            return "tool_calls" if self._has_tool_calls else "stop"
        return "stop" if end.reason is EndReason.STOPPED else "length"

    def _usage(self, end: GenerationEnd) -> bytes:
        if not self._include_usage or end.usage.is_estimate:
            return b""
        prompt = end.usage.prompt_tokens or 0
        completion = end.usage.completion_tokens or 0
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": end.usage.total_tokens or prompt + completion,
        }
        return self._frame([], usage=usage)

    def _delta(self, delta: Mapping[str, object]) -> bytes:
        return self._frame([{"index": 0, "delta": delta, "finish_reason": None}])

    def _frame(self, choices: list[object], **more: object) -> bytes:
        rest = f",{json_text(more)[1:-1]}" if more else ""
        return sse_frame(f"{self._head}{json_text(choices)}{rest}}}")

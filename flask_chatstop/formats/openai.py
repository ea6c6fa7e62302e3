"""OpenAI's chat completion chunks, for its client libraries."""

import time
from collections.abc import Mapping
from typing import Any

from flask_chatstop.backends import EndReason
from flask_chatstop.formats.base import FAILED, StreamFormat, json_text, sse_frame
from flask_chatstop.generation.answer import Answer
from flask_chatstop.generation.end import GenerationEnd

_FINISH = {EndReason.FINISHED: "stop", EndReason.STOPPED: "stop"}


class OpenAIChunks(StreamFormat):
    """The ``chat.completion.chunk`` objects of OpenAI's API, then ``[DONE]``.

    The ``id`` of each chunk is the task id. OpenAI has no word for an answer that its
    reader has stopped: ``finish_reason`` is ``stop``, and the last chunk holds
    ``chatstop: {"end_reason": "stopped"}`` besides, which the ``openai`` library keeps
    in ``model_extra``. An answer that failed ends with OpenAI's ``error`` object, which
    the library raises as an ``APIError``.

    A chunk that is a mapping is sent as the ``delta``, as for tool calls.

    :param model: the name that the chunks bear.
    :param include_usage: send the usage in a chunk of its own before the end, as
        OpenAI does for ``stream_options={"include_usage": True}``.
    """

    def __init__(self, *, model: str = "", include_usage: bool = False) -> None:
        self._model = model
        self._include_usage = include_usage
        self._created = int(time.time())
        self._head = ""

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
            return self._delta(chunk)
        raise TypeError(
            "A piece for OpenAIChunks must be a str or a delta as a mapping, not"
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
        if end.reason is EndReason.FAILED:
            error = {"message": FAILED, "type": "server_error", "code": None}
            return sse_frame(json_text({"error": {**error, "param": None}}))
        chatstop: dict[str, object] = {"end_reason": end.reason}
        if not end.saved:
            chatstop["saved"] = False
        reason = _FINISH.get(end.reason, "length")
        choice = {"index": 0, "delta": {}, "finish_reason": reason}
        last = self._frame([choice], chatstop=chatstop)
        return last + self._usage(end) + sse_frame("[DONE]")

    def _usage(self, end: GenerationEnd) -> bytes:
        if not self._include_usage:
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

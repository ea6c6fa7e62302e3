"""The UI message stream of the AI SDK, for ``useChat``."""

import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from flask_chatstop.backends import EndReason
from flask_chatstop.formats.base import FAILED, StreamFormat, json_text, sse_frame
from flask_chatstop.generation.answer import Answer
from flask_chatstop.generation.end import GenerationEnd

# Sent by the builder. A second one would begin another message, or end the reading.
_OURS = ("start", "finish", "abort", "error")
#: The id of every text part. One ends before the next one begins.
_TEXT = "text"


class UIMessageStream(StreamFormat):
    """The UI message stream that ``useChat`` of the AI SDK reads, of version 5 and 6.

    The task id is in the message's ``metadata.taskId``, from the first part on, and in
    ``metadata.endReason`` how the answer ended. A stopped answer ends with an ``abort``
    part.

    A chunk that is a mapping is sent as a part of its own, like
    ``{"type": "reasoning-start", "id": "1"}``. The text before it and after it become
    two text parts, unless it leaves nothing in the message: ``message-metadata`` and
    data that is ``transient``.

    :param message_id: of the message, a new UUID by default. Give the id of the last
        message of the request if that is an assistant's, as after a tool call in the
        browser: else ``useChat`` shows the message twice.
    """

    headers: ClassVar[Mapping[str, str]] = {"x-vercel-ai-ui-message-stream": "v1"}

    def __init__(self, *, message_id: object = None) -> None:
        self.message_id = str(message_id or uuid.uuid4())
        self._is_in_text = False

    def begin(self) -> bytes:
        metadata = {"taskId": self.task.id}
        return _part(type="start", messageId=self.message_id, messageMetadata=metadata)

    def chunk(self, chunk: Any) -> bytes:
        if isinstance(chunk, str):
            start = b""
            if not self._is_in_text:
                self._is_in_text = True
                start = _part(type="text-start", id=_TEXT)
            return start + _part(type="text-delta", id=_TEXT, delta=chunk)
        kind = chunk.get("type") if isinstance(chunk, Mapping) else None
        if not isinstance(kind, str) or kind in _OURS:
            raise TypeError(
                "A chunk for UIMessageStream must be a str, or a mapping with a type"
                f" that is none of {', '.join(_OURS)}, not {type(chunk).__name__}"
                f" {chunk!r:.60}."
            )
        is_shown = kind != "message-metadata" and not chunk.get("transient")
        end = self._end_text() if is_shown else b""
        return end + sse_frame(json_text(dict(chunk), self.task.app))

    def collect(self, chunk: Any, answer: Answer) -> None:
        if isinstance(chunk, Mapping) and chunk.get("type") == "text-delta":
            chunk = chunk.get("delta")
        super().collect(chunk, answer)

    def ping(self) -> bytes:
        return b": ping\n\n"

    def lost(self) -> bytes:
        # The AI SDK fails on a text that it has not seen begin. The first part, which a
        # stop needs, may be missing too.
        lost = _part(type="data-lost", data={}, transient=True)
        return self.begin() + lost + _part(type="text-start", id=_TEXT)

    def end(self, end: GenerationEnd) -> bytes:
        metadata: dict[str, object] = {"endReason": end.reason}
        if not end.saved:
            metadata["saved"] = False
        parts = self._end_text() + _part(
            type="message-metadata", messageMetadata=metadata
        )
        if end.reason is EndReason.FAILED:
            parts += _part(type="error", errorText=FAILED)
        elif end.reason is EndReason.FINISHED:
            parts += _part(type="finish")
        else:
            parts += _part(type="abort")
        return parts + sse_frame("[DONE]")

    def _end_text(self) -> bytes:
        if not self._is_in_text:
            return b""
        self._is_in_text = False
        return _part(type="text-end", id=_TEXT)


def _part(**fields: object) -> bytes:
    return sse_frame(json_text(fields))

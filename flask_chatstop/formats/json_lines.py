"""JSON lines: an object on each line, for scripts and programs."""

from collections.abc import Mapping
from typing import Any

from flask_chatstop.formats.base import StreamFormat, end_fields, json_text
from flask_chatstop.generation.answer import Answer
from flask_chatstop.generation.end import GenerationEnd

# Sent by the builder: a client takes them for the task id and the end of the answer.
_OURS = ("begin", "ping", "lost", "end")


class JSONLines(StreamFormat):
    """One JSON object on each line (https://jsonlines.org).

    ::

        {"type":"begin","task_id":"5f0c..."}
        {"type":"text","text":"Hello"}
        {"type":"ping"}
        {"type":"end","end_reason":"finished"}

    A chunk that is a mapping with a ``type`` is sent as it is. With the type ``text``
    its ``text`` belongs to the answer; ``begin``, ``ping`` and ``end`` are taken.
    """

    mimetype = "application/jsonl"

    def begin(self) -> bytes:
        return _line({"type": "begin", "task_id": self.task.id})

    def chunk(self, chunk: Any) -> bytes:
        if isinstance(chunk, str):
            return _line({"type": "text", "text": chunk})
        kind = chunk.get("type") if isinstance(chunk, Mapping) else None
        if not isinstance(kind, str) or kind in _OURS:
            raise TypeError(
                "A chunk for JSONLines must be a str, or a mapping with a type that is"
                f" none of {', '.join(_OURS)}, not {type(chunk).__name__}"
                f" {chunk!r:.60}."
            )
        return json_text(dict(chunk), self.task.app).encode() + b"\n"

    def collect(self, chunk: Any, answer: Answer) -> None:
        if isinstance(chunk, Mapping) and chunk.get("type") == "text":
            chunk = chunk.get("text")
        super().collect(chunk, answer)

    def ping(self) -> bytes:
        return _line({"type": "ping"})

    def lost(self) -> bytes:
        return _line({"type": "lost"})

    def end(self, end: GenerationEnd) -> bytes:
        return _line({"type": "end", **end_fields(end)})


def _line(value: dict[str, object]) -> bytes:
    return json_text(value).encode() + b"\n"

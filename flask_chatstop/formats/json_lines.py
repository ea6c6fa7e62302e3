"""JSON lines: an object on each line, for scripts and programs."""

from typing import Any

from flask_chatstop.formats.base import StreamFormat, end_fields, json_text
from flask_chatstop.generation.end import GenerationEnd


class JSONLines(StreamFormat):
    """One JSON object on each line (https://jsonlines.org).

    ::

        {"type":"begin","task_id":"5f0c..."}
        {"type":"text","text":"Hello"}
        {"type":"ping"}
        {"type":"end","end_reason":"finished"}

    A chunk that is a mapping is sent as it is; give it a ``type`` of its own.
    """

    mimetype = "application/jsonl"

    def begin(self) -> bytes:
        return _line({"type": "begin", "task_id": self.task.id})

    def chunk(self, chunk: Any) -> bytes:
        if isinstance(chunk, str):
            return _line({"type": "text", "text": chunk})
        return json_text(chunk, self.task.app).encode() + b"\n"

    def ping(self) -> bytes:
        return _line({"type": "ping"})

    def lost(self) -> bytes:
        return _line({"type": "lost"})

    def end(self, end: GenerationEnd) -> bytes:
        return _line({"type": "end", **end_fields(end)})


def _line(value: dict[str, object]) -> bytes:
    return json_text(value).encode() + b"\n"

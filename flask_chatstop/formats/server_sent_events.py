"""Server-sent events for a browser's ``EventSource``."""

from collections.abc import Mapping
from typing import Any

from flask_chatstop.checks import seconds
from flask_chatstop.formats.base import (
    StreamFormat,
    end_fields,
    json_text,
    sse_frame,
)
from flask_chatstop.generation.answer import Answer
from flask_chatstop.generation.end import GenerationEnd

# The first three are the builder's. A browser fires the others itself, as when the
# connection was lost: a page could not tell which it was.
_TAKEN = ("begin", "end", "lost", "error", "open")


class ServerSentEvents(StreamFormat):
    """Events for a browser's ``EventSource``, each with an id.

    ::

        event: begin      data: {"task_id":"5f0c..."}
                          data: {"text":"Hello"}
        event: end        data: {"end_reason":"finished"}

    The page closes its ``EventSource`` on ``end``, or the browser would connect again.
    Where it does so all the same, ``ChatStop.start()`` answers 204, and the browser
    stays away. A chunk that is a mapping is sent as the data of a message; with a key
    ``event`` it becomes an event of that name, which is none of ``begin``, ``end``,
    ``lost``, ``error`` and ``open``.

    A page that comes back to the answer, and finds that a part of it was not kept, gets
    an event ``lost``.

    :param retry: seconds after which a browser that lost its connection comes back.
    """

    def __init__(self, *, retry: float = 1.0) -> None:
        self._retry = round(1000 * seconds("retry", retry))
        self._last_id = 0

    def begin(self) -> bytes:
        data = json_text({"task_id": self.task.id})
        return f"retry: {self._retry}\n".encode() + self._frame(data, "begin")

    def chunk(self, chunk: Any) -> bytes:
        if isinstance(chunk, str):
            return self._frame(json_text({"text": chunk}))
        if not isinstance(chunk, Mapping):
            raise TypeError(
                "A chunk for ServerSentEvents must be a str or a mapping, not"
                f" {type(chunk).__name__}."
            )
        event = chunk.get("event")
        if event is None:
            return self._frame(json_text(dict(chunk), self.task.app))
        if not isinstance(event, str) or not event.isprintable() or event in _TAKEN:
            raise ValueError(
                f"{event!r} is not a name for an event of your own; {', '.join(_TAKEN)}"
                " are taken."
            )
        data = {name: value for name, value in chunk.items() if name != "event"}
        return self._frame(json_text(data, self.task.app), event)

    def collect(self, chunk: Any, answer: Answer) -> None:
        # What a page reads as text is the text that is saved.
        if isinstance(chunk, Mapping) and chunk.get("event") is None:
            chunk = chunk.get("text")
        super().collect(chunk, answer)

    def ping(self) -> bytes:
        return b": ping\n\n"

    def lost(self) -> bytes:
        return sse_frame("{}", "lost")

    def end(self, end: GenerationEnd) -> bytes:
        return self._frame(json_text(end_fields(end)), "end")

    def _frame(self, data: str, event: str | None = None) -> bytes:
        self._last_id += 1
        return sse_frame(data, event, self.event_id or str(self._last_id))

"""Dify's chat events: ``message`` for each chunk, ``message_end`` or ``error``."""

import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

from flask_chatstop.backends import EndReason
from flask_chatstop.formats.base import FAILED, StreamFormat, json_text, sse_frame
from flask_chatstop.formats.dify_usage import dify_usage
from flask_chatstop.generation.answer import Answer
from flask_chatstop.generation.end import GenerationEnd
from flask_chatstop.generation.usage import as_mapping
from flask_chatstop.logs import get_logger

logger = get_logger(__name__)

# The format sends these itself.
_OURS = ("message_end", "error", "ping", "lost")


class DifyEvents(StreamFormat):
    """The events of Dify's chat API.

    A chunk that is a string becomes a ``message``. One that is a mapping with an
    ``event``, like ``agent_thought`` or ``message_file``, is sent with the ids added.
    Every event but ``error`` holds the task id. Where ``CHATSTOP_EVENTS`` is set, each
    has an ``id:`` line, by which a client can come back to the answer; if a part of it
    was not kept, that client gets an event ``lost``.

    :param message_id: id for the events, a new UUID by default; the same for
        ``conversation_id``.
    :param metadata: sent in ``message_end``. It is read at the end, so the source may
        add to it on the way.
    :raises TypeError: the metadata is not a mapping.
    """

    def __init__(
        self,
        *,
        message_id: object = None,
        conversation_id: object = None,
        metadata: Mapping[str, object] | None = None,
    ) -> None:
        if metadata is not None and not isinstance(metadata, Mapping):
            raise TypeError(f"metadata is {metadata!r:.60}; give it a dict.")
        self.message_id: str = str(message_id or uuid.uuid4())
        self.conversation_id: str = str(conversation_id or uuid.uuid4())
        self._metadata = metadata
        self._created_at = int(time.time())
        self._head = ""

    def begin(self) -> bytes:
        head = json_text({"event": "message", **self._ids})
        self._head = f'data: {head[:-1]},"answer":'
        return self.chunk("")  # so that the client knows the task id

    def chunk(self, chunk: str | Mapping[str, object]) -> bytes:
        if isinstance(chunk, str):
            event_id = "" if self.event_id is None else f"id: {self.event_id}\n"
            return f"{event_id}{self._head}{json.dumps(chunk)}}}\n\n".encode("ascii")
        event = chunk.get("event") if isinstance(chunk, Mapping) else None
        if not isinstance(event, str) or event in _OURS:
            raise TypeError(
                "A chunk of an answer must be a str, or a mapping with an event that is"
                f" none of {', '.join(_OURS)}, not {type(chunk).__name__}"
                f" {chunk!r:.60}."
            )
        # A thought and a file have an id of their own.
        fields = {**self._ids, **chunk, "task_id": self.task.id}
        return self._frame(json_text(fields, self.task.app))

    def collect(self, chunk: Any, answer: Answer) -> None:
        if isinstance(chunk, Mapping):
            text = chunk.get("answer")
            match chunk.get("event"):
                case "message_replace" if isinstance(text, str):
                    answer.text.replace(text)
                    return
                case "message" | "agent_message":
                    chunk = text
        super().collect(chunk, answer)

    def ping(self) -> bytes:
        return b"event: ping\n\n"

    def lost(self) -> bytes:
        return sse_frame(json_text({"event": "lost", **self._ids}))

    def end(self, end: GenerationEnd) -> bytes:
        if end.reason is EndReason.FAILED:
            return self._error(end)
        ours: dict[str, object] = {"end_reason": end.reason}
        if not end.saved:
            ours["saved"] = False
        try:
            metadata = {"retriever_resources": [], **(self._metadata or {})}
            own = metadata.get("usage")
            usage = self._usage(end, {} if own is None else as_mapping(own))
            return self._message_end({**metadata, "usage": usage, **ours})
        except Exception:  # the metadata is the app's
            logger.exception(
                "The metadata of task %r cannot be sent as JSON.", self.task.id
            )
            usage = self._usage(end, {})
            return self._message_end(
                {"retriever_resources": [], "usage": usage, **ours}
            )

    # Both are made when they are needed: kept, they would take a third of the format.
    @property
    def _ids(self) -> dict[str, object]:
        return {"task_id": self.task.id, "id": self.message_id, **self._message}

    @property
    def _message(self) -> dict[str, object]:
        return {
            "message_id": self.message_id,
            "conversation_id": self.conversation_id,
            "created_at": self._created_at,
        }

    def _usage(
        self, end: GenerationEnd, own: Mapping[str, object]
    ) -> Mapping[str, object]:
        # The app's own figures win over what the source has reported.
        given = {**end.usage.reported, **own}
        return {**own, **dify_usage(given, latency=end.duration)}

    def _message_end(self, metadata: Mapping[str, object]) -> bytes:
        event = {"event": "message_end", **self._ids, "metadata": metadata}
        return self._frame(json_text(event, self.task.app))

    def _error(self, end: GenerationEnd) -> bytes:
        # Dify's own web client shows the message of an error of this status alone.
        event: dict[str, object] = {"event": "error", **self._message, "status": 400}
        event |= {"code": "completion_request_error", "message": FAILED}
        if not end.saved:
            event["metadata"] = {"saved": False}
        return self._frame(json_text(event))

    def _frame(self, data: str) -> bytes:
        return sse_frame(data, event_id=self.event_id)

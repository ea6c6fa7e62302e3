"""Dify's chat events: ``message`` for each piece, ``message_end`` or ``error``."""

import json
import logging
import time
import uuid
from collections.abc import Iterator, Mapping

from flask import Flask

from flask_chatstop.backends import EndReason
from flask_chatstop.generation.text import AnswerText

logger = logging.getLogger(__name__)

PING = b"event: ping\n\n"
#: Characters of one event. As JSON each may take six bytes, in three copies.
LONGEST = 65_536


class DifyEvents:
    """The events of one answer, and the text that was sent in them."""

    def __init__(
        self,
        task_id: str,
        message_id: object,
        conversation_id: object,
        metadata: Mapping[str, object] | None,
    ) -> None:
        self._metadata = metadata
        self._text = AnswerText()
        self.message_id = str(message_id or uuid.uuid4())
        self.conversation_id = str(conversation_id or uuid.uuid4())
        self._message = {
            "message_id": self.message_id,
            "conversation_id": self.conversation_id,
            "created_at": int(time.time()),
        }
        self._ids = {"task_id": task_id, "id": self.message_id, **self._message}
        head = json.dumps({"event": "message", **self._ids}, separators=(",", ":"))
        self._head = head[:-1] + ',"answer":'

    @property
    def text(self) -> str:
        """The text that was sent so far."""
        return str(self._text)

    def pieces(self, text: str) -> Iterator[bytes]:
        """Yield the ``message`` events of a piece that is too long for one."""
        for start in range(0, len(text), LONGEST):
            yield self.piece(text[start : start + LONGEST])

    def piece(self, text: str) -> bytes:
        """Return a ``message`` event.

        :raises TypeError: the piece is not a string.
        """
        if not isinstance(text, str):
            raise TypeError(
                f"A piece of an answer must be a str, not {type(text).__name__}."
            )
        self._text.add(text)
        return f"data: {self._head}{json.dumps(text)}}}\n\n".encode("ascii")

    def end(self, reason: EndReason | None, app: Flask) -> bytes:
        """Return the event that ends the answer."""
        if reason is EndReason.FAILED:
            return _frame(
                {
                    "event": "error",
                    **self._message,
                    "status": 500,
                    "code": "internal_server_error",
                    "message": "The answer could not be completed.",
                }
            )
        event = {"event": "message_end", **self._ids}
        try:
            metadata = {**(self._metadata or {}), "end_reason": reason}
            return _frame({**event, "metadata": _plain(metadata, app)})
        except Exception:  # the metadata is the app's
            logger.exception(
                "The metadata of task %r cannot be sent as JSON.", self._ids["task_id"]
            )
            return _frame({**event, "metadata": {"end_reason": reason}})


def _plain(value: object, app: Flask) -> object:
    """Return a value as JSON's own types; the app's provider decides about others.

    What the provider writes is read again, since it may indent, and a line feed would
    end the event.
    """
    return json.loads(app.json.dumps(value, sort_keys=False))


def _frame(event: object) -> bytes:
    # NaN is not JSON, and a browser would refuse the whole event.
    text = json.dumps(event, separators=(",", ":"), allow_nan=False)
    return f"data: {text}\n\n".encode("ascii")

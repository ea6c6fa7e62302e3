"""The base class of the formats, and helpers that several of them share."""

import abc
import json
from collections.abc import Mapping
from typing import Any, ClassVar

from flask import Flask

from flask_chatstop.backends import EndReason
from flask_chatstop.errors import ConfigurationError
from flask_chatstop.generation.answer import Answer
from flask_chatstop.generation.end import GenerationEnd
from flask_chatstop.generation.task import GenerationTask

#: What a client is told of an answer that failed. The error itself is in the log.
FAILED = "The answer could not be completed."

# Made once: json.dumps() would make an encoder for each event.
_as_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class StreamFormat(abc.ABC):
    r"""How one answer is sent, from its first byte to its end.

    A subclass says what is sent for a chunk, and most say what is sent first and last::

        class Lines(StreamFormat):
            mimetype = "text/plain"

            def begin(self):
                return f"task {self.task.id}\n".encode()

            def chunk(self, chunk):
                return f"text {chunk!r}\n".encode()

            def end(self, end):
                return f"end {end.reason}\n".encode()

    The response calls :meth:`begin`, then :meth:`chunk` and :meth:`ping`, then
    :meth:`end` once, never two of them at the same time. What a method returns is sent
    at once; ``b""`` and ``None`` send nothing. An object is for one answer.
    """

    #: The content type of the response.
    mimetype: ClassVar[str] = "text/event-stream"
    #: Headers of the response besides those of every answer.
    headers: ClassVar[Mapping[str, str]] = {}
    #: Ids that ``on_end`` is told, in a format that has them.
    message_id: str | None = None
    conversation_id: str | None = None
    #: The id of the event that is made now, where answers are kept for those who come
    #: back to them; ``None`` elsewhere. Put it into the event, and a client that has
    #: read the event can go on from there.
    event_id: str | None = None

    _task: GenerationTask | None = None

    @property
    def task(self) -> GenerationTask:
        """The task whose answer is sent; known from :meth:`begin` on."""
        if self._task is None:
            raise ConfigurationError(
                f"This {type(self).__name__} has no task yet: give it to"
                " stream_response."
            )
        return self._task

    def attach(self, task: GenerationTask) -> None:
        """Take the task whose answer is sent; ``stream_response`` calls it.

        :raises ConfigurationError: the format has been used for another answer.
        """
        if self._task is not None:
            raise ConfigurationError(
                f"This {type(self).__name__} was used for task {self._task.id!r}; make"
                " a new one for each answer."
            )
        self._task = task

    def begin(self) -> bytes:
        """Return what is sent at once, before the model has answered.

        Put the task id into it, and a client can stop the answer from here on.
        """
        return b""

    @abc.abstractmethod
    def chunk(self, chunk: Any) -> bytes:
        """Return what is sent for a chunk of the source.

        ``None`` and ``""`` are not passed to it. A string of more than 65,536
        characters is passed in several parts.

        :raises TypeError: the format has no way to send such a chunk. The answer ends
            as failed.
        """

    def collect(self, chunk: Any, answer: Answer) -> None:
        """Add the text of a chunk to the text that ``on_end`` is told.

        By default a string is added and anything else has no text.
        """
        if isinstance(chunk, str):
            answer.text.add(chunk)

    def ping(self) -> bytes:
        """Return what is sent while the source is silent; clients must ignore it.

        Only by sending does a server find out that its client has left.
        """
        return b""

    def lost(self) -> bytes:
        """Return what somebody who comes back to the answer is sent for a missing part.

        It was not kept, since the answer is too long or the store was away. Where
        nothing is returned, the connection is cut instead.
        """
        return b""

    def end(self, end: GenerationEnd) -> bytes:
        """Return what is sent last, however the answer ended."""
        return b""


def as_frame(sent: object) -> bytes:
    """Return what a method of a format has returned, which may be the app's code.

    :raises TypeError: it is neither bytes nor ``None``.
    """
    if sent is None:
        return b""
    if not isinstance(sent, bytes):
        raise TypeError(f"A format returned {sent!r:.60}; it must return bytes.")
    return sent


def sse_frame(
    data: str, event: str | None = None, event_id: str | None = None
) -> bytes:
    """Return one server-sent event.

    See https://html.spec.whatwg.org/multipage/server-sent-events.html.

    :param data: text without a line feed.
    """
    head = "" if event is None else f"event: {event}\n"
    if event_id is not None:
        head += f"id: {event_id}\n"
    return f"{head}data: {data}\n\n".encode()


def json_text(value: object, app: Flask | None = None) -> str:
    """Return a value as compact JSON in ASCII, on one line.

    :param app: its JSON provider writes what is not JSON's own, like a ``Decimal``.
    :raises TypeError: the value has no form in JSON.
    :raises ValueError: it contains NaN, which is not JSON: no browser reads it.
    """
    try:
        return _as_json(value)
    except TypeError:
        if app is None:
            raise
    # Read again: the provider may indent, and a line feed would end an event.
    value = json.loads(app.json.dumps(value, sort_keys=False))
    return _as_json(value)


def end_fields(end: GenerationEnd) -> dict[str, object]:
    """Return the fields of an end in the formats that are ours alone."""
    fields: dict[str, object] = {"end_reason": end.reason}
    if not end.saved:
        fields["saved"] = False
    if end.reason is EndReason.FAILED:
        fields["message"] = FAILED
    return fields

"""The response that streams an answer, until it ends or is stopped."""

import logging
import time
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping
from typing import Any, Literal
from urllib.parse import quote

from flask import Response

from flask_chatstop.backends import EndReason
from flask_chatstop.checks import check_callable, seconds
from flask_chatstop.formats import DifyEvents, StreamFormat
from flask_chatstop.formats.recorded import record
from flask_chatstop.generation.end import GenerationEnd
from flask_chatstop.generation.stream import ChunkStream
from flask_chatstop.generation.task import GenerationTask
from flask_chatstop.threads import start_thread

logger = logging.getLogger(__name__)

#: Characters of a chunk. In JSON each may take six bytes, in three copies.
LONGEST = 65_536


def stream_response(
    task: GenerationTask,
    chunks: Iterable[Any] | AsyncIterable[Any],
    *,
    format: StreamFormat | None = None,
    upstream: object | None = None,
    on_end: Callable[[GenerationEnd], object] | None = None,
    on_disconnect: Literal["stop", "continue"] = "stop",
    heartbeat: float = 10.0,
) -> Response:
    """Stream an answer in a format, until it ends or is stopped.

    The response carries the task id in the header ``Chatstop-Task-Id``, quoted as in
    the URL of its stop. If the source fails, the error is logged, and the client does
    not see its text.

    :param chunks: the pieces of the answer, an iterable or an async iterable of
        strings, or of what else the format sends; ``None`` and ``""`` are skipped.
    :param format: how the answer reads on the wire, an object of
        :mod:`flask_chatstop.formats`, made anew for each answer; by default that of the
        ``ChatStop``.
    :param upstream: a response to hang up on that the source has not opened itself,
        see :meth:`GenerationTask.stream`.
    :param on_end: called once with a :class:`GenerationEnd`, however the generation
        ended, with the app context pushed and before the client is told. Save the
        answer here, or the part of it that there is. If it raises, the client is told
        that the answer was not saved.
    :param on_disconnect: what happens when the client leaves: ``"stop"`` ends the
        generation, ``"continue"`` lets it run to its end, still stoppable.
    :param heartbeat: seconds of silence after which a ping is sent.
    :raises ConfigurationError: the heartbeat is not a number above 0, or the format was
        used before.
    :raises RuntimeError: the task already has a stream.
    :raises TypeError: the source is not iterable, ``format`` is no format, or
        ``on_end`` cannot be called with one argument.
    :raises ValueError: ``on_disconnect`` has another value.
    """
    if on_disconnect not in ("stop", "continue"):
        raise ValueError(
            f"on_disconnect is {on_disconnect!r}, not 'stop' or 'continue'."
        )
    heartbeat = seconds("heartbeat", heartbeat)
    format = _checked(task.make_format() if format is None else format)
    if on_end is not None:
        check_callable("on_end", on_end, 1)
    stream = task.stream(chunks, upstream, heartbeat=heartbeat)
    format.attach(task)
    task.has_response = True
    if on_end is not None:
        task.on_end(on_end)
    sent = record(format, task, heartbeat, _headers(task, format))
    body = _FormattedStream(
        sent, task, stream, heartbeat, continues=on_disconnect == "continue"
    )
    response = _response(task, format, body)
    # The app may wrap the stream in an iterator of its own that has no close().
    response.call_on_close(body.close)
    return response


def chat_response(
    task: GenerationTask,
    pieces: Iterable[Any] | AsyncIterable[Any],
    *,
    upstream: object | None = None,
    on_end: Callable[[GenerationEnd], object] | None = None,
    on_disconnect: Literal["stop", "continue"] = "stop",
    message_id: object = None,
    conversation_id: object = None,
    metadata: Mapping[str, object] | None = None,
    heartbeat: float = 10.0,
) -> Response:
    """Stream an answer as the events of Dify's chat API, until it ends or is stopped.

    The same as :func:`stream_response` with
    :class:`~flask_chatstop.formats.DifyEvents`, whose parameters are ``message_id``,
    ``conversation_id`` and ``metadata``.

    Sends ``message`` events. The first one is sent at once and is empty, so that the
    client knows the task id before the first token. Then sends ``message_end``, or
    ``error`` if the source failed.
    """
    return stream_response(
        task,
        pieces,
        format=DifyEvents(
            message_id=message_id, conversation_id=conversation_id, metadata=metadata
        ),
        upstream=upstream,
        on_end=on_end,
        on_disconnect=on_disconnect,
        heartbeat=heartbeat,
    )


def stopped_response(task: GenerationTask) -> Response:
    """Return the response of a task that was stopped before it had a stream."""
    task.end(EndReason.STOPPED)
    format = _checked(task.make_format())
    format.attach(task)
    sent = record(format, task, 10.0, _headers(task, format))
    return _response(task, format, [sent.begin(), _end(sent, task)])


def _checked(format: object) -> StreamFormat:
    if not isinstance(format, StreamFormat):
        raise TypeError(f"format is {format!r}; give it an object like DifyEvents().")
    return format


def _response(
    task: GenerationTask, format: StreamFormat, body: Iterable[bytes]
) -> Response:
    return task.app.response_class(
        body, mimetype=format.mimetype, headers=_headers(task, format)
    )


def _headers(task: GenerationTask, format: StreamFormat) -> dict[str, str]:
    return {
        "Cache-Control": "no-cache",
        "X-Accel-Buffering": "no",
        "Chatstop-Task-Id": quote(task.id, safe=""),
        **format.headers,
    }


def _end(format: StreamFormat, task: GenerationTask) -> bytes:
    # Another thread may be telling the app of the end.
    task.wait_until_reported()
    assert task.generation_end is not None
    try:
        return format.end(task.generation_end)
    except Exception:  # a format may be the app's
        logger.exception("The end of task %r cannot be sent.", task.id)
        return b""


class _FormattedStream(Iterator[bytes]):
    """An answer in a format, for a WSGI server, which closes it when its client leaves.

    Not a generator: what hits the server in ``next()``, like a ``gevent.Timeout``,
    would end one for good, and nobody could read on.
    """

    def __init__(
        self,
        format: StreamFormat,
        task: GenerationTask,
        chunks: ChunkStream[Any],
        heartbeat: float,
        *,
        continues: bool,
    ) -> None:
        self._format = format
        self._task = task
        self._chunks = chunks
        self._heartbeat = heartbeat
        self._continues = continues
        self._answer = task.answer
        self._answer.message_id = format.message_id
        self._answer.conversation_id = format.conversation_id
        # What is to be sent of a long chunk.
        self._left: Iterator[str] | None = None
        self._sent_at: float | None = None
        self._is_over = self._is_closed = False

    def __next__(self) -> bytes:
        # A server takes b"" for the end of the response, or sends it for nothing.
        while not self._is_over:
            frame = self._next_before_end()
            if frame is None:
                self._is_over = True
                frame = _end(self._format, self._task)
            if frame:
                self._sent_at = time.monotonic()
                return frame
        raise StopIteration

    def _next_before_end(self) -> bytes | None:
        try:
            if self._sent_at is None:
                self._sent_at = time.monotonic()
                return self._format.begin()
            if self._left is not None and not self._task.stopped:
                for part in self._left:
                    return self._send(part)
            self._left = None
            for chunk in self._chunks:
                if isinstance(chunk, str) and len(chunk) > LONGEST:
                    self._left = _parts(chunk)
                    return self._send(next(self._left))
                # A chunk of a library's own type may have no truth value.
                if chunk is not None and (not isinstance(chunk, str) or chunk):
                    return self._send(chunk)
                if time.monotonic() - self._sent_at >= self._heartbeat:
                    return self._format.ping()
        except Exception as error:
            self._task.end(EndReason.FAILED, error)
            logger.exception("The source of task %r failed.", self._task.id)
        return None

    def _send(self, chunk: Any) -> bytes:
        frame = self._format.chunk(chunk)
        self._format.collect(chunk, self._answer)
        self._answer.pieces += 1
        return frame

    def close(self) -> None:
        if not self._continues or self._task.end_reason is not None:
            self._chunks.close()
        elif not self._is_closed:
            self._is_closed = True
            start_thread(_exhaust, self)


def _parts(chunk: str) -> Iterator[str]:
    for start in range(0, len(chunk), LONGEST):
        yield chunk[start : start + LONGEST]


def _exhaust(frames: Iterator[bytes]) -> None:
    for _ in frames:
        pass

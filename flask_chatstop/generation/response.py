"""The response that streams an answer, until it ends or is stopped."""

import dataclasses
import logging
import time
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

from flask import Response

from flask_chatstop.backends import EndReason
from flask_chatstop.checks import check_callable, seconds
from flask_chatstop.generation.end import GenerationEnd
from flask_chatstop.generation.formats.dify import LONGEST, PING, DifyEvents
from flask_chatstop.generation.stream import ChunkStream
from flask_chatstop.generation.task import GenerationTask
from flask_chatstop.threads import start_thread

logger = logging.getLogger(__name__)


def chat_response(
    task: GenerationTask,
    pieces: Iterable[str | None] | AsyncIterable[str | None],
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

    Sends ``message`` events. The first one is sent at once and is empty, so that the
    client knows the task id before the first token. Then sends ``message_end``, or
    ``error`` if the source failed: the error is logged, and the client does not see
    its text.

    :param pieces: the pieces of the answer, an iterable or an async iterable;
        ``None`` and ``""`` are skipped.
    :param upstream: a response to hang up on that the source has not opened itself,
        see :meth:`GenerationTask.stream`.
    :param on_end: called once with a :class:`GenerationEnd`, however the generation
        ended, with the app context pushed and before the client is told. Save the
        answer here, or the part of it that there is.
    :param on_disconnect: what happens when the client leaves: ``"stop"`` ends the
        generation, ``"continue"`` lets it run to its end, still stoppable.
    :param message_id: id for the events, a new UUID by default; the same for
        ``conversation_id``.
    :param metadata: sent in ``message_end`` beside ``end_reason``. It is read at the
        end, so the source may add its usage on the way.
    :param heartbeat: seconds of silence after which a ping is sent.
    :raises ConfigurationError: the heartbeat is not a number above 0.
    :raises RuntimeError: the task already has a stream.
    :raises TypeError: the source is not iterable, or ``on_end`` is not callable.
    :raises ValueError: ``on_disconnect`` has another value.
    """
    if on_disconnect not in ("stop", "continue"):
        raise ValueError(
            f"on_disconnect is {on_disconnect!r}, not 'stop' or 'continue'."
        )
    heartbeat = seconds("heartbeat", heartbeat)
    if on_end is not None:
        check_callable("on_end", on_end)
    answer = DifyEvents(task.id, message_id, conversation_id, metadata)
    stream = _EventStream(answer, task, pieces, upstream, heartbeat, on_disconnect)
    if on_end is not None:
        task.on_end(lambda end: on_end(_with_text(end, answer)))
    response = _response(task, stream)
    # The app may wrap the stream in an iterator of its own that has no close().
    response.call_on_close(stream.close)
    return response


def stopped_response(task: GenerationTask) -> Response:
    """Return the response of a task that was stopped before it had a stream."""
    task.end(EndReason.STOPPED)
    answer = DifyEvents(task.id, None, None, None)
    return _response(task, [answer.piece(""), answer.end(task.end_reason, task.app)])


def _response(task: GenerationTask, frames: Iterable[bytes]) -> Response:
    return task.app.response_class(
        frames,
        mimetype="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


def _with_text(end: GenerationEnd, answer: DifyEvents) -> GenerationEnd:
    return dataclasses.replace(
        end,
        text=answer.text,
        message_id=answer.message_id,
        conversation_id=answer.conversation_id,
    )


class _EventStream(Iterator[bytes]):
    """An answer's events, for a WSGI server, which closes it when its client leaves.

    Not a generator: what hits the server in ``next()``, like a ``gevent.Timeout``,
    would end one for good, and nobody could read on.
    """

    def __init__(
        self,
        answer: DifyEvents,
        task: GenerationTask,
        pieces: Iterable[str | None] | AsyncIterable[str | None],
        upstream: object | None,
        heartbeat: float,
        on_disconnect: str,
    ) -> None:
        self._pieces: ChunkStream[Any] = task.stream(
            pieces, upstream, heartbeat=heartbeat
        )
        self._answer = answer
        self._task = task
        self._heartbeat = heartbeat
        self._continues = on_disconnect == "continue"
        # What is to be sent of a long piece.
        self._left: Iterator[bytes] | None = None
        self._sent_at: float | None = None
        self._is_over = self._is_closed = False

    def __next__(self) -> bytes:
        if self._is_over:
            raise StopIteration
        if self._sent_at is None:
            frame: bytes | None = self._answer.piece("")
        else:
            frame = self._next_before_end(self._sent_at)
        if frame is None:
            self._is_over = True
            return self._answer.end(self._task.end_reason, self._task.app)
        self._sent_at = time.monotonic()
        return frame

    def _next_before_end(self, sent_at: float) -> bytes | None:
        try:
            if self._left is not None and not self._task.stopped:
                for frame in self._left:
                    return frame
            self._left = None
            for piece in self._pieces:
                if isinstance(piece, str) and len(piece) > LONGEST:
                    self._left = self._answer.pieces(piece)
                    return next(self._left)
                if piece:
                    return self._answer.piece(piece)
                if time.monotonic() - sent_at >= self._heartbeat:
                    return PING
        except Exception as error:
            self._task.end(EndReason.FAILED, error)
            logger.exception("The source of task %r failed.", self._task.id)
        return None

    def close(self) -> None:
        if not self._continues or self._task.end_reason is not None:
            self._pieces.close()
        elif not self._is_closed:
            self._is_closed = True
            start_thread(_exhaust, self)


def _exhaust(frames: Iterator[bytes]) -> None:
    for _ in frames:
        pass

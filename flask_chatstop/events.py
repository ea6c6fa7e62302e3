"""The event stream of a streaming chat message, and the answer of its end."""

import dataclasses
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

from flask import Response

from flask_chatstop.backends import EndReason
from flask_chatstop.backends.base import seconds
from flask_chatstop.streaming import ChunkStream
from flask_chatstop.tasks import GenerationEnd, GenerationTask, check_callable

logger = logging.getLogger(__name__)

_PING = b"event: ping\n\n"


def chat_response(
    task: GenerationTask,
    pieces: Iterable[str | None],
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

    Sends ``message`` events, the first one at once and empty, so that the client
    knows the task id before the first token; then ``message_end``, or ``error`` if
    the source failed, which is logged and whose text the client does not see.

    :param pieces: the pieces of the answer; ``None`` and ``""`` are passed over.
    :param upstream: the provider's response to hang up on, see
        :meth:`GenerationTask.stream`.
    :param on_end: called once with a :class:`GenerationEnd`, in whatever way the
        generation ended, with the app context pushed and before the client is told:
        the place to save an answer or a part of one.
    :param on_disconnect: whether a client that leaves ends the generation or lets it
        ``"continue"`` to its end, still stoppable.
    :param message_id: id for the events, and the same for ``conversation_id``; a new
        UUID unless given.
    :param metadata: goes into ``message_end`` beside ``end_reason``; read at the end,
        so the source may fill in its usage on the way.
    :param heartbeat: seconds of silence after which a ping is sent.
    :raises ConfigurationError: the heartbeat is no number above 0.
    :raises RuntimeError: the task has a stream already.
    :raises TypeError: the source is not iterable, or ``on_end`` cannot be called.
    :raises ValueError: ``on_disconnect`` is neither of the two.
    """
    if on_disconnect not in ("stop", "continue"):
        raise ValueError(
            f"on_disconnect is {on_disconnect!r}, not 'stop' or 'continue'."
        )
    heartbeat = seconds("heartbeat", heartbeat)
    if on_end is not None:
        check_callable("on_end", on_end)
    answer = _Answer(task, message_id, conversation_id, metadata)
    stream = _EventStream(answer, task, pieces, upstream, heartbeat, on_disconnect)
    if on_end is not None:
        task.on_end(lambda end: on_end(answer.describe(end)))
    response = _response(task, stream)
    # The app may put an iterator of its own in our place, that has no close().
    response.call_on_close(stream.close)
    return response


def stopped_response(task: GenerationTask) -> Response:
    """Answer for a task that was stopped before it had anything to stream."""
    task.end(EndReason.STOPPED)
    answer = _Answer(task, None, None, None)
    return _response(task, [answer.piece(""), answer.end(task)])


def _response(task: GenerationTask, frames: Iterable[bytes]) -> Response:
    return task.app.response_class(
        frames,
        mimetype="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


class _Answer:
    """The text so far and the ids, and how they read as events."""

    def __init__(
        self,
        task: GenerationTask,
        message_id: object,
        conversation_id: object,
        metadata: Mapping[str, object] | None,
    ) -> None:
        self._metadata = metadata
        self._text: list[str] = []
        self._message_id = str(message_id or uuid.uuid4())
        self._conversation_id = str(conversation_id or uuid.uuid4())
        self._message = {
            "message_id": self._message_id,
            "conversation_id": self._conversation_id,
            "created_at": int(time.time()),
        }
        self._ids = {"task_id": task.id, "id": self._message_id, **self._message}
        head = json.dumps({"event": "message", **self._ids}, separators=(",", ":"))
        self._head = head[:-1] + ',"answer":'

    def describe(self, end: GenerationEnd) -> GenerationEnd:
        return dataclasses.replace(
            end,
            text=_whole("".join(self._text)),
            message_id=self._message_id,
            conversation_id=self._conversation_id,
        )

    def piece(self, text: str) -> bytes:
        if not isinstance(text, str):
            raise TypeError(
                f"A piece of an answer is a str, not {type(text).__name__}."
            )
        self._text.append(text)
        return f"data: {self._head}{json.dumps(text)}}}\n\n".encode("ascii")

    def end(self, task: GenerationTask) -> bytes:
        reason = task.end_reason
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
            return _frame({**event, "metadata": metadata}, task.app.json.dumps)
        except Exception:  # of whatever the app has put into it
            logger.exception("The metadata of task %s is no JSON.", task.id)
            return _frame({**event, "metadata": {"end_reason": reason}})


class _EventStream(Iterator[bytes]):
    """An answer's events, for a WSGI server: closing it is its client's leaving."""

    def __init__(
        self,
        answer: _Answer,
        task: GenerationTask,
        pieces: Iterable[str | None],
        upstream: object | None,
        heartbeat: float,
        on_disconnect: str,
    ) -> None:
        self._pieces: ChunkStream[Any] = task.stream(
            pieces, upstream, heartbeat=heartbeat
        )
        # No method's generator: without a cycle, the last reference ends the task.
        self._frames = _generate(self._pieces, answer, task, heartbeat)
        self._task = task
        self._continues = on_disconnect == "continue"
        self._is_closed = False

    def __next__(self) -> bytes:
        return next(self._frames)

    def close(self) -> None:
        if not self._continues or self._task.end_reason is not None:
            self._pieces.close()
        elif not self._is_closed:
            self._is_closed = True
            threading.Thread(
                target=_exhaust,
                args=(self._frames,),
                name="chatstop_continue",
                daemon=True,
            ).start()


def _generate(
    pieces: ChunkStream[Any], answer: _Answer, task: GenerationTask, heartbeat: float
) -> Iterator[bytes]:
    yield answer.piece("")
    sent_at = time.monotonic()
    try:
        for piece in pieces:
            if piece:
                yield answer.piece(piece)
            elif time.monotonic() - sent_at >= heartbeat:
                yield _PING
            else:
                continue
            sent_at = time.monotonic()
    except Exception as error:
        task.end(EndReason.FAILED, error)
        logger.exception("The source of task %s failed.", task.id)
    yield answer.end(task)


def _exhaust(frames: Iterator[bytes]) -> None:
    for _ in frames:
        pass


def _whole(text: str) -> str:
    """Join surrogates that came in two pieces; no store would take half of one."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _frame(event: object, dumps: Callable[..., str] = json.dumps) -> bytes:
    return f"data: {dumps(event, separators=(',', ':'), sort_keys=False)}\n\n".encode()

"""The response that streams an answer, until it ends or is stopped."""

from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from typing import Any, Literal
from urllib.parse import quote

from flask import Response, has_request_context, request

from flask_chatstop.backends import EndReason
from flask_chatstop.bodies import streamed_response
from flask_chatstop.checks import check_callable, seconds
from flask_chatstop.formats import DifyEvents, StreamFormat
from flask_chatstop.formats.recorded import RecordedFormat, record
from flask_chatstop.formats.stream import FormattedStream, end_frame
from flask_chatstop.generation.end import GenerationEnd
from flask_chatstop.generation.task import GenerationTask
from flask_chatstop.logs import get_logger

logger = get_logger(__name__)


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

    :param chunks: the source: an iterable or an async iterable of strings, or of other
        values that the format sends. ``None`` and ``""`` are skipped.
    :param format: how the answer is sent, an object of :mod:`flask_chatstop.formats`
        that is new for each answer; by default that of the ``ChatStop``.
    :param upstream: a response to hang up on that the source has not opened itself,
        see :meth:`GenerationTask.stream`.
    :param on_end: called once with a :class:`GenerationEnd`, however the generation
        ended, with the app context pushed and before the client is told. Save the
        answer here, or the part of it that there is. If it raises, the client is told
        that the answer was not saved.
    :param on_disconnect: what happens when the client leaves: ``"stop"`` ends the
        generation, ``"continue"`` lets it run to its end, still stoppable. A HEAD
        request ends it in any case, before the source is read.
    :param heartbeat: seconds of silence after which a ping is sent.
    :raises ConfigurationError: the heartbeat is not a number above 0, or the format was
        used before.
    :raises RuntimeError: the task already has a stream.
    :raises TypeError: ``task`` is not a task; the source is not iterable, or is a text,
        a mapping or a whole answer; ``format`` is not a format; or ``on_end`` is async
        or cannot be called with one argument.
    :raises ValueError: ``on_disconnect`` has another value.
    """
    if on_disconnect not in ("stop", "continue"):
        raise ValueError(
            f"on_disconnect is {on_disconnect!r}, not 'stop' or 'continue'."
        )
    if not isinstance(task, GenerationTask):
        raise TypeError(f"task is {task!r}; give it what ChatStop.start() returned.")
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
    body = FormattedStream(
        sent,
        task,
        stream,
        heartbeat,
        continues=on_disconnect == "continue" and not _is_head(),
    )
    response = _response(task, format, sent, body)
    # The app may wrap the stream in an iterator of its own that has no close().
    response.call_on_close(body.close)
    return response


def chat_response(
    task: GenerationTask,
    chunks: Iterable[Any] | AsyncIterable[Any],
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

    :raises TypeError: the metadata is not a mapping.
    """
    return stream_response(
        task,
        chunks,
        format=DifyEvents(
            message_id=message_id, conversation_id=conversation_id, metadata=metadata
        ),
        upstream=upstream,
        on_end=on_end,
        on_disconnect=on_disconnect,
        heartbeat=heartbeat,
    )


def stopped_response(task: GenerationTask) -> Response:
    """Return the response to a view that :class:`TaskStopped` has left."""
    task.end(EndReason.STOPPED)
    format = _checked(task.make_format())
    format.attach(task)
    sent = record(format, task, 10.0, _headers(task, format))
    return _response(task, format, sent, [sent.begin(), end_frame(sent, task)])


def _is_head() -> bool:
    # Flask answers it by the view of GET, and sends no body.
    return has_request_context() and request.method == "HEAD"


def _checked(format: object) -> StreamFormat:
    if not isinstance(format, StreamFormat):
        raise TypeError(f"format is {format!r}; give it an object like DifyEvents().")
    return format


def _response(
    task: GenerationTask,
    format: StreamFormat,
    sent: StreamFormat,
    body: Iterable[bytes],
) -> Response:
    headers = _headers(task, format)
    response = streamed_response(
        task.app, body, mimetype=format.mimetype, headers=headers
    )
    if isinstance(sent, RecordedFormat):
        response.call_on_close(sent.sent)
    return response


def _headers(task: GenerationTask, format: StreamFormat) -> dict[str, str]:
    return {
        "Cache-Control": "no-cache",
        "X-Accel-Buffering": "no",
        "Chatstop-Task-Id": quote(task.id, safe=""),
        **format.headers,
    }

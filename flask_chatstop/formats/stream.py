"""An answer in a format, as a WSGI server reads it."""

import time
from collections.abc import Iterator
from typing import Any

from flask_chatstop.backends import EndReason
from flask_chatstop.bodies import StreamedBody
from flask_chatstop.formats.base import StreamFormat, as_frame
from flask_chatstop.generation.stream import ChunkStream
from flask_chatstop.generation.task import GenerationTask
from flask_chatstop.logs import get_logger
from flask_chatstop.threads import start_thread

logger = get_logger(__name__)

#: The most characters that are sent at once. In JSON each may take six bytes, and three
#: copies of them exist for a moment.
LONGEST = 65_536


def end_frame(format: StreamFormat, task: GenerationTask) -> bytes:
    """Return what is sent last, once the app has been told of the end."""
    # Another thread may be telling the app of the end.
    task.wait_until_reported()
    assert task.generation_end is not None
    try:
        return as_frame(format.end(task.generation_end))
    except Exception:  # a format may be the app's
        logger.exception("The end of task %r cannot be sent.", task.id)
        return b""


class FormattedStream(StreamedBody):
    """An answer in a format, for a WSGI server, which closes it when its client leaves.

    Not a generator: an exception that the server raises in its thread while ``next()``
    waits, like a ``gevent.Timeout``, ends a generator for good. This can be read on.
    """

    __slots__ = (
        "_answer",
        "_chunks",
        "_continues",
        "_format",
        "_heartbeat",
        "_is_closed",
        "_is_over",
        "_left",
        "_sent_at",
        "_task",
    )

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
        # The parts of a long chunk that are still to be sent.
        self._left: Iterator[str] | None = None
        self._sent_at: float | None = None
        self._is_over = self._is_closed = False

    def __next__(self) -> bytes:
        # Some servers take b"" for the end of the response.
        while not self._is_over:
            frame = self._next_before_end()
            if frame is None:
                self._is_over = True
                frame = end_frame(self._format, self._task)
            if frame:
                self._sent_at = time.monotonic()
                return frame
        raise StopIteration

    def _next_before_end(self) -> bytes | None:
        """Return what is sent next, ``None`` when only the end is left."""
        try:
            if self._sent_at is None:
                self._sent_at = time.monotonic()
                return as_frame(self._format.begin())
            if self._left is not None and not self._task.stopped:
                for part in self._left:
                    return self._send(part)
            self._left = None
            while True:
                # Not by a loop: a call that goes through C takes 0.4 KiB of its stack,
                # which gevent keeps for each stream that waits.
                try:
                    chunk = self._chunks.__next__()
                except StopIteration:
                    return None
                if isinstance(chunk, str) and len(chunk) > LONGEST:
                    self._left = _parts(chunk)
                    return self._send(next(self._left))
                # The truth value of other types may be an error, as of numpy arrays.
                if chunk is not None and (not isinstance(chunk, str) or chunk):
                    return self._send(chunk)
                if time.monotonic() - self._sent_at >= self._heartbeat:
                    return as_frame(self._format.ping())
        except Exception as error:
            self._task.end(EndReason.FAILED, error)
            logger.exception("The source of task %r failed.", self._task.id)
        return None

    def _send(self, chunk: Any) -> bytes:
        frame = as_frame(self._format.chunk(chunk))
        self._format.collect(chunk, self._answer)
        self._answer.chunks += 1
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

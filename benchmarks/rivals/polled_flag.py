"""A stop by a flag that is polled, in an app of the same routes as ``apps.latency``.

The stop sets a flag in Redis and answers 200. The stream waits a second at most for an
item of a queue, and looks at the flag after every item. A thread reads the model and
publishes into the queue; it leaves the model when it has published a chunk and finds
the flag. So Dify does it, in ``core/app/apps/base_app_queue_manager.py`` of its API,
where a look costs a GET, or none for a second after one; this is not its code.
"""

import json
import os
import queue
import threading
import time
import uuid
from collections.abc import Generator, Iterator
from contextlib import closing

import httpx
import redis
from flask import Flask, Response, current_app, request

_WAIT = 1.0
_dumps = json.JSONEncoder(separators=(",", ":")).encode


def create_app() -> Flask:
    """Make the app.

    Its Redis comes from ``POLLED_FLAG_REDIS``, and the seconds for which a look at the
    flag counts from ``POLLED_FLAG_CACHE``.
    """
    app = Flask(__name__)
    app.extensions["models"] = httpx.Client(timeout=None)
    app.extensions["flags"] = redis.Redis.from_url(os.environ["POLLED_FLAG_REDIS"])
    app.add_url_rule("/v1/chat-messages", view_func=send_message, methods=["POST"])
    app.add_url_rule(
        "/v1/chat-messages/<task_id>/stop", view_func=stop, methods=["POST"]
    )
    return app


def _flags() -> redis.Redis:
    flags: redis.Redis = current_app.extensions["flags"]
    return flags


def send_message() -> Response:
    """Stream what the provider says."""
    body = request.get_json()
    task_id = str(uuid.uuid4())
    _flags().setex(f"polled:owner:{task_id}", 1800, body["user"])
    answer = Answer(task_id, _flags(), float(os.environ["POLLED_FLAG_CACHE"]))
    pieces = said(current_app.extensions["models"], body["provider"])
    threading.Thread(target=answer.read, args=(pieces,), daemon=True).start()
    return Response(answer.events(), mimetype="text/event-stream")


def said(models: httpx.Client, url: str) -> Generator[str, None, None]:
    """Give what the provider says, and leave it when closed."""
    with models.stream("GET", url) as reply:
        yield from reply.iter_text()


def stop(task_id: str) -> dict[str, str]:
    """Set the flag of a task, if it is the user's, and answer success anyhow."""
    owner = _flags().get(f"polled:owner:{task_id}")
    if owner == request.get_json()["user"].encode():
        _flags().setex(f"polled:stopped:{task_id}", 600, 1)
    return {"result": "success"}


class Answer:
    """The queue between the thread that reads the model and the stream.

    :param cache: seconds for which a look at the flag counts.
    """

    def __init__(self, task_id: str, flags: redis.Redis, cache: float) -> None:
        self._key = f"polled:stopped:{task_id}"
        self._flags = flags
        self._cache = cache
        self._head = _dumps({"event": "message", "task_id": task_id})[:-1]
        self._items: queue.Queue[str | None] = queue.Queue()
        self._looked_at = 0.0
        self._is_stopped = False

    def read(self, pieces: Generator[str, None, None]) -> None:
        """Publish what the model says, until the flag is found."""
        with closing(pieces):
            for piece in pieces:
                self._items.put(piece)
                if self._looks_stopped():
                    return
        self._items.put(None)

    def events(self) -> Iterator[bytes]:
        """Give the events, until the provider has ended or the flag is found."""
        while not self._looks_stopped():
            try:
                piece = self._items.get(timeout=_WAIT)
            except queue.Empty:
                continue
            if piece is None:
                break
            yield f'data: {self._head},"answer":{json.dumps(piece)}}}\n\n'.encode()
        reason = "stopped" if self._is_stopped else "finished"
        event = {"event": "message_end", "metadata": {"end_reason": reason}}
        yield f"data: {_dumps(event)}\n\n".encode()

    def _looks_stopped(self) -> bool:
        if time.monotonic() - self._looked_at >= self._cache:
            self._is_stopped = self._flags.get(self._key) is not None
            # Not before: the other thread would take the old answer for a new one.
            self._looked_at = time.monotonic()
        return self._is_stopped

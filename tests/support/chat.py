"""An app with a chat in it, as a user of the package writes it."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flask import Flask, Response, request
from werkzeug.test import TestResponse

from flask_chatstop import ChatStop, GenerationEnd, GenerationTask, chat_response

AUTH = {"Authorization": "Bearer demo-key"}
OTHER_AUTH = {"Authorization": "Bearer other-key"}
KEYS = {"demo-key": "demo", "other-key": "other"}


class Chat:
    """The app, with what its answers are made of and how its generations ended.

    :param pieces: makes the pieces of an answer from its task.
    :param options: for ``chat_response``.
    """

    def __init__(
        self,
        pieces: Callable[[GenerationTask], Iterable[Any]] = lambda _: ["One ", "two"],
        config: dict[str, object] | None = None,
        **options: Any,
    ) -> None:
        self.ends: list[GenerationEnd] = []
        self.tasks: list[GenerationTask] = []
        self.app = Flask("chat")
        self.app.config["CHATSTOP_API_KEYS"] = KEYS
        self.app.config.update(config or {})
        self.chatstop = ChatStop()

        @self.app.post("/v1/chat-messages")
        @self.chatstop.login_required
        def send_message() -> Response:
            task = self.chatstop.start(user=request.get_json()["user"])
            self.tasks.append(task)
            return chat_response(task, pieces(task), on_end=self.ends.append, **options)

        self.app.register_blueprint(self.chatstop, url_prefix="/v1")
        self.client = self.app.test_client()

    def ask(self, user: str = "alice", auth: dict[str, str] = AUTH) -> "Answer":
        """Send a message."""
        response = self.client.post(
            "/v1/chat-messages", json={"user": user}, headers=auth
        )
        assert response.status_code == 200, response.data
        return Answer(response)

    def stop(
        self, task_id: str, user: str = "alice", auth: dict[str, str] = AUTH
    ) -> TestResponse:
        """Press the stop button."""
        return self.client.post(
            f"/v1/chat-messages/{task_id}/stop", json={"user": user}, headers=auth
        )


class Answer:
    """A streaming answer, read event by event."""

    def __init__(self, response: TestResponse) -> None:
        self.response = response
        self._frames: Iterator[Any] = iter(response.response)
        self.first = self.next()
        self.task_id: str = self.first["task_id"]

    def next(self) -> dict[str, Any]:
        """Read an event; a ping is ``{"event": "ping"}``."""
        frame = next(self._frames)
        text = frame.decode() if isinstance(frame, bytes) else frame
        assert text.endswith("\n\n") and text.count("\n\n") == 1
        if text == "event: ping\n\n":
            return {"event": "ping"}
        # An id may stand before it.
        event = json.loads(text.partition("data: ")[2])
        assert isinstance(event, dict)
        return event

    def rest(self) -> list[dict[str, Any]]:
        """Read to the end."""
        events = []
        while True:
            try:
                events.append(self.next())
            except StopIteration:
                return events

    def leave(self) -> None:
        """Close the tab."""
        self.response.close()


class Source:
    """A source that gives what it is told to, and blocks until it is."""

    def __init__(self, *chunks: Any) -> None:
        self.chunks = list(chunks)
        self.go_on = threading.Event()
        self.is_silent = threading.Event()
        self.closed_in: str | None = None
        self.closed = threading.Event()

    def __call__(self, task: GenerationTask | None = None) -> Iterator[Any]:
        try:
            yield from self.chunks
            self.is_silent.set()
            assert self.go_on.wait(30)
            yield "last"
        finally:
            self.closed_in = threading.current_thread().name
            self.closed.set()

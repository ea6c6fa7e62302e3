"""A chat app whose answers go on until they are stopped, as one worker of several."""

import threading
import uuid
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, request
from werkzeug.test import TestResponse

from flask_chatstop import ChatStop, StopBackend, chat_response
from flask_chatstop.state import AppState
from flask_chatstop.testing import wait_until
from flask_chatstop.worker import Worker

HEADERS = {"Authorization": "Bearer key"}


class WorkerApp:
    """An app of its own and, with it, a worker of its own."""

    def __init__(self, backend: str | StopBackend, **config: object) -> None:
        self.app = Flask("worker_app")
        self.app.config["CHATSTOP_BACKEND"] = backend
        self.app.config["CHATSTOP_API_KEYS"] = {"key": "app"}
        for name, value in config.items():
            self.app.config[f"CHATSTOP_{name.upper()}"] = value
        chatstop = ChatStop()
        self.app.register_blueprint(chatstop, url_prefix="/v1")
        self._chats: list[Chat] = []

        @self.app.post("/v1/chat-messages")
        @chatstop.login_required
        def send_message() -> Response:
            body = request.get_json()
            task = chatstop.start(user="alice", task_id=body["task_id"])
            return chat_response(task, _words(body["words"]))

    @property
    def worker(self) -> Worker:
        return AppState.of(self.app).worker

    def chat(self, words: int = 1_000_000, task_id: str | None = None) -> "Chat":
        """Begin an answer of so many words, and return when its stream has begun."""
        chat = Chat(self.app, words, task_id or uuid.uuid4().hex)
        self._chats.append(chat)
        return chat

    def stop(self, chat: "Chat") -> TestResponse:
        return self.app.test_client().post(
            f"/v1/chat-messages/{chat.task_id}/stop",
            json={"user": "alice"},
            headers=HEADERS,
        )

    def can_stop(self, chat: "Chat") -> bool:
        """Tell whether a stop is taken and ends the chat long before a rare sweep."""
        return self.stop(chat).status_code == 200 and chat.ended.wait(10)

    def close(self) -> None:
        self.worker.close()
        for chat in self._chats:
            assert chat.ended.wait(30)
        self.worker.backend.close()


class Chat:
    """A client that reads an answer as it comes."""

    def __init__(self, app: Flask, words: int, task_id: str) -> None:
        self.task_id = task_id
        self.events: list[str] = []
        self.ended = threading.Event()
        thread = threading.Thread(target=self._read, args=(app, words), daemon=True)
        thread.start()
        wait_until(lambda: bool(self.events))

    def goes_on(self) -> bool:
        """Tell whether more of the answer comes."""
        count = len(self.events)
        wait_until(lambda: len(self.events) > count + 5 or self.ended.is_set())
        return not self.ended.is_set()

    def _read(self, app: Flask, words: int) -> None:
        body: dict[str, Any] = {"task_id": self.task_id, "words": words}
        with app.test_client() as client:
            response = client.post("/v1/chat-messages", json=body, headers=HEADERS)
            for event in response.iter_encoded():
                self.events.append(event.decode())
            response.close()
        self.ended.set()


def _words(count: int) -> Iterator[str]:
    pause = threading.Event()
    for _ in range(count):
        pause.wait(0.01)
        yield "word "

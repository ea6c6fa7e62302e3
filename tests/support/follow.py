"""Apps whose answers are kept, and clients that come back to them."""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast
from urllib.parse import quote

from flask import Flask
from werkzeug.test import TestResponse

from flask_chatstop import ChatStop, GenerationEnd, GenerationTask, stream_response
from flask_chatstop.formats import ServerSentEvents, StreamFormat
from flask_chatstop.state import AppState
from tests.support.chat import AUTH, KEYS


class FollowedApp:
    """One worker of an app with ``POST /v1/ask`` whose answers are kept.

    :param pieces: makes the pieces of an answer from its task.
    :param options: for ``stream_response``.
    """

    def __init__(
        self,
        config: dict[str, Any] | None = None,
        pieces: Callable[[GenerationTask], Iterable[Any]] = lambda _: ["One ", "two"],
        make_format: Callable[[], StreamFormat] = ServerSentEvents,
        chatstop: ChatStop | None = None,
        **options: Any,
    ) -> None:
        self.tasks: list[GenerationTask] = []
        self.ends: list[GenerationEnd] = []
        self.pieces = pieces
        self.make_format = make_format
        self.chatstop = chatstop or ChatStop()
        self.app = Flask("followed")
        self.app.config["CHATSTOP_API_KEYS"] = KEYS
        self.app.config["CHATSTOP_EVENTS"] = "memory://"
        self.app.config.update(config or {})

        @self.app.post("/v1/ask")
        @self.chatstop.login_required
        def ask() -> Any:
            task = self.chatstop.start(user="alice")
            self.tasks.append(task)
            return stream_response(
                task,
                self.pieces(task),
                format=self.make_format(),
                on_end=self.ends.append,
                **options,
            )

        self.app.register_blueprint(self.chatstop, url_prefix="/v1")
        self.client = self.app.test_client()

    def ask(self) -> "Reading":
        """Send a message, and read nothing yet."""
        return Reading(self.app.test_client().post("/v1/ask", headers=AUTH))

    def follow(
        self,
        task_id: str,
        after: object = None,
        *,
        method: str = "GET",
        headers: dict[str, str] = AUTH,
        user: str | None = "alice",
    ) -> "Reading":
        """Come back to an answer."""
        query = {"user": user} if user is not None else {}
        if after is not None:
            headers = {**headers, "Last-Event-ID": str(after)}
        url = f"/v1/chat-messages/{quote(task_id, safe='')}/events"
        client = self.app.test_client()
        return Reading(
            client.open(url, method=method, headers=headers, query_string=query)
        )

    def close(self) -> None:
        """End what runs, as at the exit of the process."""
        state = AppState.of(self.app)
        state.worker.close()
        if state.event_writer is not None:
            state.event_writer.close()

    def stop(self, task_id: str) -> TestResponse:
        """Press the stop button."""
        url = f"/v1/chat-messages/{task_id}/stop"
        return self.client.post(url, json={"user": "alice"}, headers=AUTH)


class Reading:
    """A response that is read bit by bit."""

    def __init__(self, response: TestResponse) -> None:
        self.response = response
        self.status = response.status_code
        self.task_id = response.headers.get("Chatstop-Task-Id", "")
        self._body = cast(Iterator[bytes], iter(response.response))

    def next(self) -> bytes:
        """Return what is sent next."""
        return next(self._body)

    def read_until(self, text: bytes) -> bytes:
        """Read until a text was sent, and return all that was."""
        read = b""
        while text not in read:
            read += self.next()
        return read

    def rest(self) -> bytes:
        """Read to the end."""
        return b"".join(self._body)

    def leave(self) -> None:
        """Close the tab."""
        self.response.close()


class Gate:
    """A source that yields what it is given, one piece for each ``go_on``."""

    def __init__(self, *pieces: Any) -> None:
        self._pieces = pieces
        self._permits = threading.Semaphore(0)

    def go_on(self, pieces: int = 1) -> None:
        """Let so many more pieces through; the end of the source is one."""
        for _ in range(pieces):
            self._permits.release()

    def __call__(self, task: GenerationTask | None = None) -> Iterator[Any]:
        return self._read()  # which does not hold the task

    def _read(self) -> Iterator[Any]:
        for piece in self._pieces:
            assert self._permits.acquire(timeout=60)
            yield piece
        assert self._permits.acquire(timeout=60)

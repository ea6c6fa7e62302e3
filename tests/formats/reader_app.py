"""An app whose answers are read by the clients that a format is made for."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flask import request

from flask_chatstop import GenerationEnd, GenerationTask, stream_response
from flask_chatstop.formats import StreamFormat
from flask_chatstop.testing import wait_until
from tests.support.chat import Chat
from tests.support.servers.threaded import served

#: Makes the pieces of an answer from its task.
Make = Callable[[GenerationTask], Iterator[Any]]


class ReaderApp(Chat):
    """The chat, with a route whose request names the answer that it wants.

    :param route: of the chat, in the form of the client's.
    :param answers: by name, what makes their pieces. A name is the ``model`` of the
        request's body, or of its query.
    :param options: for ``stream_response``.
    """

    def __init__(
        self,
        route: str,
        make_format: Callable[[], StreamFormat],
        answers: dict[str, Make],
        config: dict[str, object] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(config=config)
        #: The tasks by the name of their answer, each asked for once.
        self.by_name: dict[str, GenerationTask] = {}

        @self.app.get("/")
        @self.app.get("/favicon.ico")
        def empty_page() -> str:
            return ""

        @self.app.route(route, methods=["GET", "POST"])
        def answer() -> Any:
            asked = request.args or request.get_json()
            task = self.chatstop.start(user="alice", app="demo")
            self.tasks.append(task)
            self.by_name[asked["model"]] = task
            return stream_response(
                task,
                answers[asked["model"]](task),
                format=make_format(),
                on_end=self.ends.append,
                **options,
            )

    def end_of(self, name: str) -> GenerationEnd:
        """Wait until an answer has ended, and return how."""
        task = self.by_name[name]
        wait_until(lambda: any(end.task_id == task.id for end in self.ends))
        [end] = [end for end in self.ends if end.task_id == task.id]
        return end

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve the app for the length of a with block, and give its address."""
        with served(self.app) as url:
            yield url


class Pinged(threading.Event):
    """Set when a ping is sent: no reader shows one."""

    def pausing(self, task: GenerationTask) -> Iterator[str]:
        """Yield two words, and be silent between them until a ping was sent."""
        yield "One "
        self.clear()  # another answer may have had one
        assert self.wait(30)
        yield "two"

    def counting(self, make_format: type[StreamFormat]) -> type[StreamFormat]:
        """Return the format, which sets this event when it sends a ping."""
        pinged = self

        class Counting(make_format):  # type: ignore[valid-type,misc]
            def ping(self) -> bytes:
                pinged.set()
                frame: bytes = super().ping()
                return frame

        return Counting


def whole(task: GenerationTask) -> Iterator[str]:
    """Yield a whole answer, and report its usage."""
    task.report_usage({"prompt_tokens": 3, "completion_tokens": 4})
    yield from ["One ", "two"]


def failing(task: GenerationTask) -> Iterator[str]:
    """Fail after a word."""
    yield "One "
    raise LookupError("secret detail")


def silent(task: GenerationTask) -> Iterator[str]:
    """Say a word, then wait for the stop."""
    yield "One "
    assert task.wait(30), "no stop came"

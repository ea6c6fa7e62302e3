"""An app whose answers are sent in a format of the test's choice."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from werkzeug.test import TestResponse

from flask_chatstop import GenerationEnd, GenerationTask, stream_response
from flask_chatstop.formats import StreamFormat
from tests.support.chat import AUTH, Chat


class FormatApp(Chat):
    """The chat, with ``POST /ask`` in a format."""

    def __init__(
        self,
        make_format: Callable[[], StreamFormat],
        pieces: Callable[[GenerationTask], Iterable[Any]] = lambda _: ["One ", "two"],
        **options: Any,
    ) -> None:
        super().__init__()
        options.setdefault("on_end", self.ends.append)

        @self.app.route("/ask", methods=["GET", "POST"])
        @self.chatstop.login_required
        def ask_in_format() -> Any:
            task = self.chatstop.start(user="alice")
            self.tasks.append(task)
            return stream_response(task, pieces(task), format=make_format(), **options)

    def answer(self) -> TestResponse:
        """Send a message, and read the answer to its end."""
        return self.client.post("/ask", headers=AUTH, buffered=True)

    def begin(self) -> "Reading":
        """Send a message, and read nothing yet."""
        return Reading(self.client.post("/ask", headers=AUTH))

    @property
    def end(self) -> GenerationEnd:
        """How the only generation ended."""
        [end] = self.ends
        return end


class Reading:
    """An answer that is read bit by bit."""

    def __init__(self, response: TestResponse) -> None:
        self.response = response
        self._body = cast(Iterator[bytes], iter(response.response))

    def next(self) -> bytes:
        """Return what is sent next."""
        return next(self._body)

    def read_until(self, text: bytes) -> None:
        """Read until a text was sent."""
        while text not in self.next():
            pass

    def rest(self) -> bytes:
        """Read to the end."""
        return b"".join(self._body)

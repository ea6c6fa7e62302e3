"""A server reads a stream itself, and what an app may do with its response holds."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, Response
from werkzeug.test import create_environ

from flask_chatstop.bodies import StreamedBody, streamed_response


class Body(StreamedBody):
    """A body of two pieces that notes its close."""

    def __init__(self) -> None:
        self.pieces = iter([b"one ", b"two"])
        self.events: list[str] = []

    def __next__(self) -> bytes:
        return next(self.pieces)

    def close(self) -> None:
        self.events.append("body")


def app_with(
    body: Body,
    hook: Callable[[Response], object] = lambda response: None,
    response_class: type[Response] = Response,
) -> Flask:
    """Make an app whose view sends a body, and whose hook may change the response."""
    app = Flask("bodies")
    app.response_class = response_class

    @app.get("/")
    def view() -> Response:
        response = streamed_response(app, body, mimetype="text/plain")
        response.call_on_close(lambda: body.events.append("response"))
        return response

    @app.after_request
    def change(response: Response) -> Response:
        hook(response)
        return response

    return app


def read_by(app: Flask) -> Any:
    """Return what a server would read."""
    environ = create_environ()
    return app.wsgi_app(environ, lambda *_: lambda _: None)


def test_the_server_reads_the_body_and_closes_it_with_its_response() -> None:
    body = Body()
    app_iter = read_by(app_with(body))
    assert list(app_iter) == [b"one ", b"two"]
    assert body.events == []
    app_iter.close()
    assert body.events == ["body", "response"]


def test_a_server_can_read_on_after_it_was_interrupted() -> None:
    class Interrupted(Body):
        is_first = True

        def __next__(self) -> bytes:
            if self.is_first:
                self.is_first = False
                raise TimeoutError
            return super().__next__()

    app_iter = read_by(app_with(Interrupted()))
    with pytest.raises(TimeoutError):
        next(app_iter)
    assert list(app_iter) == [b"one ", b"two"]


def test_a_hook_may_wrap_the_body() -> None:
    def shout(response: Response) -> None:
        response.response = (piece.upper() for piece in response.iter_encoded())

    body = Body()
    answer = app_with(body, shout).test_client().get("/")
    assert answer.text == "ONE TWO"
    answer.close()
    assert body.events == ["response"]


def test_a_hook_may_read_the_whole_body() -> None:
    def measure(response: Response) -> None:
        response.headers["X-Length"] = str(len(response.get_data()))

    answer = app_with(Body(), measure).test_client().get("/")
    assert (answer.headers["X-Length"], answer.text) == ("7", "one two")


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204)])
def test_a_response_without_a_body_closes_it(method: str, status: int) -> None:
    def set_status(response: Response) -> None:
        response.status_code = status

    body = Body()
    answer = app_with(body, set_status).test_client().open("/", method=method)
    assert answer.data == b""
    answer.close()
    assert body.events == ["body", "response"]


def test_a_response_is_of_the_class_of_the_app() -> None:
    class Own(Response):
        default_mimetype = "text/html"

    classes = []
    app = app_with(Body(), lambda response: classes.append(type(response)), Own)
    assert app.test_client().get("/").text == "one two"
    [response_class] = classes
    assert issubclass(response_class, Own)
    assert response_class.__name__ == "Own"


def test_a_class_of_the_app_may_change_what_is_sent() -> None:
    class Shouting(Response):
        def iter_encoded(self) -> Iterator[bytes]:
            return (piece.upper() for piece in super().iter_encoded())

    app = app_with(Body(), response_class=Shouting)
    assert app.test_client().get("/").text == "ONE TWO"

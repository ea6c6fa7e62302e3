"""What gunicorn makes of raw bytes: requests for an app, and answers to them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flask import Flask
from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.http.parser import RequestParser

#: Bytes that a client sends at a time.
_SEGMENT = 700
_CLIENT = ("127.0.0.1", 50000)
_SERVER = ("127.0.0.1", 8000)
_CONFIG = Config()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as the app has given it to its server."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class _Client:
    """The client's end of a connection, which keeps what is sent to it."""

    def __init__(self) -> None:
        self.received = b""

    def send(self, data: bytes) -> int:
        self.received += data
        return len(data)

    def sendall(self, data: bytes) -> None:
        self.received += data


def environs(data: bytes) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield the environ of each request on a connection, and its response.

    :raises Exception: the server refuses what comes next by itself.
    """
    segments = [data[i : i + _SEGMENT] for i in range(0, len(data), _SEGMENT)]
    for request in RequestParser(_CONFIG, iter(segments), _CLIENT):
        response, environ = wsgi.create(request, _Client(), _CLIENT, _SERVER, _CONFIG)
        yield environ, response


def call(app: Flask, environ: dict[str, Any], response: Any) -> Answer:
    """Have an app answer, as a worker of gunicorn does.

    :raises Exception: the answer cannot be sent, or was none.
    """
    parts = app(environ, response.start_response)
    try:
        body = b""
        for part in parts:
            response.write(part)
            body += part
        response.close()
    finally:
        if hasattr(parts, "close"):
            parts.close()
    return Answer(response.status_code, response.headers, body)

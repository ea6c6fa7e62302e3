"""The methods that tracking hooks into, with nothing in them but what the hooks need.

So the hooks alone can be timed, to a hundredth of a microsecond. Beside them stand the
same requests through the whole library.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import httpcore
import httpcore2
import urllib3
from urllib3.connection import HTTPConnection

from flask_chatstop.upstream import hooks

#: Reads of a long answer.
READS = 500
# As openai's client sends them, up to the one that is looked for.
_HEADERS = [
    (b"Host", b"provider.example"),
    (b"Accept-Encoding", b"gzip, deflate"),
    (b"Connection", b"keep-alive"),
    (b"Accept", b"application/json"),
    (b"Content-Type", b"application/json"),
    (b"User-Agent", b"OpenAI/Python 3.0.0"),
]

#: Sends a request and reads its answer so many times, to its end.
Ask = Callable[[int], None]


@dataclass(slots=True)
class _Reply:
    stream: Any


class _Body(list[bytes]):
    def close(self) -> None:
        pass


class _Wire:
    def get_extra_info(self, info: str) -> object:
        return None


@contextmanager
def _httpcore_stubs(library: Any) -> Iterator[Ask]:
    http11 = importlib.import_module(f"{library.__name__}._sync.http11")
    connection_class = http11.HTTP11Connection
    connection = connection_class.__new__(connection_class)
    connection._network_stream = _Wire()
    pool = library.ConnectionPool.__new__(library.ConnectionPool)
    bodies: dict[int, _Body] = {}

    def handle_request(self: object, request: Any) -> _Reply:
        connection._send_request_headers(request)
        return _Reply(bodies[pool.reads])

    def send_request_headers(self: object, request: object) -> None:
        pass

    request = library.Request("POST", "http://provider.example/", headers=_HEADERS)

    def ask(reads: int) -> None:
        pool.reads = reads
        if reads not in bodies:
            bodies[reads] = _Body([b"piece"] * reads)
        response = pool.handle_request(request)
        for _ in response.stream:
            pass
        response.stream.close()

    with (
        patch.object(library.ConnectionPool, "handle_request", handle_request),
        patch.object(connection_class, "_send_request_headers", send_request_headers),
    ):
        yield ask


@contextmanager
def _urllib3_stubs() -> Iterator[Ask]:
    response_class = urllib3.HTTPResponse
    connection: Any = HTTPConnection("provider.example")
    connection.sock = object()
    connection._response_options = None
    pool: Any = urllib3.HTTPConnectionPool("provider.example")
    response: Any = response_class()
    catcher: AbstractContextManager[None] = nullcontext()
    headers = {name.decode(): value.decode() for name, value in _HEADERS}

    def request(
        self: object, method: str, url: str, body: object = None, headers: object = None
    ) -> None:
        pass

    def getresponse(self: Any) -> object:
        return self._response_options or response

    def put_conn(self: object, conn: object) -> None:
        pass

    def error_catcher(self: object) -> AbstractContextManager[None]:
        return catcher

    def ask(reads: int) -> None:
        connection.request("POST", "/", None, headers)
        response = connection.getresponse()
        for _ in range(reads):
            with response._error_catcher():
                pass
        pool._put_conn(connection)

    with (
        patch.object(HTTPConnection, "request", request),
        patch.object(HTTPConnection, "getresponse", getresponse),
        patch.object(urllib3.HTTPConnectionPool, "_put_conn", put_conn),
        patch.object(response_class, "_error_catcher", error_catcher),
    ):
        yield ask


#: By library, what puts the stubs in place while a with block lasts.
STUBS: dict[str, Callable[[], AbstractContextManager[Ask]]] = {
    "httpcore": lambda: _httpcore_stubs(httpcore),
    "httpcore2": lambda: _httpcore_stubs(httpcore2),
    "urllib3": _urllib3_stubs,
}


@contextmanager
def stubs(name: str) -> Iterator[Ask]:
    """Put the stubs of a library in place, and take out all hooks before and after."""
    hooks.uninstall()
    try:
        with STUBS[name]() as ask:
            try:
                yield ask
            finally:
                hooks.uninstall()
    finally:
        hooks.uninstall()

"""Real HTTP clients above a network that costs next to nothing.

Each request is answered by the same bytes from memory.
"""

import io
from collections.abc import Callable
from typing import Any

import httpcore
import httpcore2
import urllib3
from urllib3.connection import HTTPConnection

#: The answer to each request.
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\npiece"
)

#: Sends one request, reads its answer to the end and closes it.
Ask = Callable[[], None]


def _stream_class(library: Any) -> Any:
    class CannedStream(library.NetworkStream):  # type: ignore[misc]
        """A connection that answers each request by the same bytes."""

        def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
            return _ANSWER

        def write(self, buffer: bytes, timeout: float | None = None) -> None:
            pass

        def close(self) -> None:
            pass

        def get_extra_info(self, info: str) -> object:
            return None

    return CannedStream


def _ask_httpcore(library: Any) -> Ask:
    stream_class = _stream_class(library)

    class Backend(library.NetworkBackend):  # type: ignore[misc]
        def connect_tcp(self, *args: object, **options: object) -> Any:
            return stream_class()

    pool = library.ConnectionPool(network_backend=Backend())
    url = library.URL("http://provider.example/chat")
    headers = [(b"Host", b"provider.example"), (b"User-Agent", b"benchmark")]

    def ask() -> None:
        response = pool.handle_request(
            library.Request("GET", url, headers=headers, extensions={})
        )
        for _ in response.stream:
            pass
        response.close()

    return ask


class _CannedSocket:
    """The part of a socket that http.client uses."""

    def sendall(self, data: bytes) -> None:
        pass

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(_ANSWER)

    def settimeout(self, timeout: float | None) -> None:
        pass

    def close(self) -> None:
        pass


def _ask_urllib3() -> Ask:
    class Connection(HTTPConnection):
        is_connected = True

        def _new_conn(self) -> Any:
            return _CannedSocket()

    class Pool(urllib3.HTTPConnectionPool):
        ConnectionCls = Connection

    pool = Pool("provider.example")

    def ask() -> None:
        response = pool.urlopen(
            "GET",
            "/chat",
            headers={"User-Agent": "benchmark"},
            preload_content=False,
            retries=False,
        )
        for _ in response.stream():
            pass
        response.release_conn()

    return ask


#: By library, what makes a function that asks for an answer.
CLIENTS: dict[str, Callable[[], Ask]] = {
    "httpcore": lambda: _ask_httpcore(httpcore),
    "httpcore2": lambda: _ask_httpcore(httpcore2),
    "urllib3": _ask_urllib3,
}

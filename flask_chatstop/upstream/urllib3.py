"""Tracking the calls of urllib3, and of requests and botocore, which use it.

A call begins with ``connection.request()``, and ends when its connection goes back to
the pool or its response is closed. Every read of a body goes through
``response._error_catcher()``.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from types import TracebackType
from typing import Any

from flask_chatstop.errors import SourceStopped
from flask_chatstop.upstream.calls import Call, bound_calls
from flask_chatstop.upstream.shape import Hook, UnknownShape, expect

# The attribute of a connection, and of a response, that holds the call.
_CALL = "_chatstop_call"

Method = Callable[..., Any]


def hooks(library: Any) -> list[Hook]:
    """Return the hooks into urllib3 2.

    :raises UnknownShape: the library is not as known.
    """
    connection = library.connection.HTTPConnection
    pool = library.HTTPConnectionPool
    response = library.HTTPResponse
    expect(connection, "request", ["self", "method", "url", "body", "headers"])
    expect(connection, "getresponse", ["self"])
    expect(connection, "connect", ["self"])
    expect(connection, "getresponse", sets="_response_options")
    expect(pool, "_put_conn", ["self", "conn"])
    expect(response, "release_conn", ["self"], sets="_put_conn")
    expect(response, "close", ["self"])
    expect(response, "_error_catcher", ["self"])
    for method in ("_raw_read", "read_chunked"):
        expect(response, method, sets="_error_catcher")
    if not hasattr(response, "__slots__") and not hasattr(connection, "__slots__"):
        return [
            (connection, "request", _request),
            (connection, "getresponse", _getresponse),
            (pool, "_put_conn", _put_conn),
            (response, "close", _close),
            (response, "_error_catcher", _error_catcher),
        ]
    raise UnknownShape("classes with slots")


def _origin(connection: Any, url: str) -> object:
    """Return the origin that a request is for, also through a proxy."""
    if url.startswith("http"):  # a proxy that forwards gets the whole URL
        return url[: url.find("/", len("https://"))]
    tunnel = getattr(connection, "_tunnel_host", None)
    if tunnel:
        return connection.default_port, tunnel, connection._tunnel_port
    return connection.default_port, connection.host, connection.port


def _request(original: Method) -> Method:
    @wraps(original)
    def request(
        self: Any,
        method: str,
        url: str,
        body: Any = None,
        headers: Any = None,
        **more: Any,
    ) -> Any:
        calls = bound_calls()
        call = None
        if calls is not None:
            agent = (headers or {}).get("User-Agent", "")
            call = calls.open(_origin(self, url), _text(agent))
        setattr(self, _CALL, call)
        if call is None:
            return original(self, method, url, body, headers, **more)
        try:
            if self.sock is None:
                # Else the original would connect, and send at once on a socket that a
                # stop meanwhile could not know.
                self.connect()
            call.sends_on(self.sock)
            return original(self, method, url, body, headers, **more)
        except BrokenPipeError:
            raise  # the pool reads the response all the same
        except BaseException:
            call.close()
            call.raise_if_cut()
            raise

    return request


def _getresponse(original: Method) -> Method:
    @wraps(original)
    def getresponse(self: Any) -> Any:
        call: Call | None = getattr(self, _CALL, None)
        if call is None:
            return original(self)
        try:
            response = original(self)
        except BaseException:
            call.close()
            call.raise_if_cut()
            raise
        setattr(response, _CALL, call)
        return response

    return getresponse


def _put_conn(original: Method) -> Method:
    @wraps(original)
    def _put_conn(self: Any, conn: Any) -> None:
        # Before another task can take the connection.
        call: Call | None = getattr(conn, _CALL, None)
        if call is not None:
            call.close()
            setattr(conn, _CALL, None)
        original(self, conn)

    return _put_conn


def _close(original: Method) -> Method:
    @wraps(original)
    def close(self: Any) -> None:
        call: Call | None = getattr(self, _CALL, None)
        if call is not None:
            call.close()
        original(self)

    return close


def _error_catcher(original: Method) -> Method:
    @wraps(original)
    def error_catcher(self: Any) -> AbstractContextManager[None]:
        catcher: AbstractContextManager[None] = original(self)
        call: Call | None = getattr(self, _CALL, None)
        return catcher if call is None else _CutCatcher(catcher, call)

    return error_catcher


class _CutCatcher(AbstractContextManager[None]):
    """Catch what reading raises, and raise that the call was cut if it was."""

    def __init__(self, catcher: AbstractContextManager[None], call: Call) -> None:
        self._catcher = catcher
        self._call = call

    def __enter__(self) -> None:
        self._catcher.__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if exc is None and self._call.is_cut:
            # What was read is incomplete. The catcher closes the connection.
            exc_type, exc = SourceStopped, SourceStopped()
        try:
            handled = self._catcher.__exit__(exc_type, exc, traceback)
        except BaseException:
            self._call.raise_if_cut()
            raise
        if exc_type is not GeneratorExit:
            self._call.raise_if_cut()
        return handled


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")

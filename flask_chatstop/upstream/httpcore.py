"""Tracking the calls of httpcore and httpcore2, sync and async.

httpx, httpx2 and the model libraries on them send their requests through a pool of
theirs. A call begins with ``pool.handle_request()``, is sent by
``connection._send_request_headers()``, and ends with ``response.stream.close()``. An
HTTP/2 connection carries other tasks' calls too. It has another class and is left
alone.
"""

import importlib
from collections.abc import AsyncIterator, Callable, Iterator
from functools import wraps
from typing import Any

from flask_chatstop.upstream.calls import Call, bound_calls
from flask_chatstop.upstream.shape import Hook, expect

# Where the call stands among the extensions of a request. A proxy's CONNECT request
# gets the extensions of the request that it is for.
_CALL = "chatstop_call"
# Not the connection's handle_request(): two requests may be given one idle connection,
# and the second finds there that it is taken. Its call must not know that socket.
_SEND = "_send_request_headers"

Method = Callable[..., Any]


def hooks(library: Any) -> list[Hook]:
    """Return the hooks into httpcore or httpcore2.

    :raises UnknownShape: the library is not as known.
    """
    found: list[Hook] = []
    for folder, prefix, suffix, pool, connection in (
        ("_sync", "", "handle_request", _pool, _connection),
        ("_async", "Async", "handle_async_request", _async_pool, _async_connection),
    ):
        http11 = importlib.import_module(f"{library.__name__}.{folder}.http11")
        pool_class = getattr(library, f"{prefix}ConnectionPool", None)
        connection_class = getattr(http11, f"{prefix}HTTP11Connection", None)
        expect(pool_class, suffix, ["self", "request"])
        expect(connection_class, _SEND, ["self", "request"])
        expect(connection_class, suffix, sets=_SEND)
        expect(connection_class, "__init__", sets="_network_stream")
        found += [(pool_class, suffix, pool), (connection_class, _SEND, connection)]
    expect(library.Request, "__init__", sets="extensions")
    expect(library.Response, "__init__", sets="stream")
    return found


def _begin(request: Any) -> Call | None:
    calls = bound_calls()
    if calls is None:
        return None
    origin = request.url.origin
    call = calls.open(
        (origin.scheme, origin.host, origin.port), _user_agent(request.headers)
    )
    if call is not None:
        # A new dict: the old one may be the app's, and used for other requests.
        request.extensions = {**request.extensions, _CALL: call}
    return call


def _user_agent(headers: list[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if len(name) == len("user-agent") and name.lower() == b"user-agent":
            return value.decode("latin-1")
    return ""


def _pool(original: Method) -> Method:
    @wraps(original)
    def handle_request(self: Any, request: Any) -> Any:
        call = _begin(request)
        if call is None:
            return original(self, request)
        try:
            response = original(self, request)
        except BaseException:
            call.close()
            call.raise_if_cut()
            raise
        response.stream = _Stream(response.stream, call)
        return response

    return handle_request


def _connection(original: Method) -> Method:
    @wraps(original)
    def send_request_headers(self: Any, request: Any) -> Any:
        call: Call | None = request.extensions.get(_CALL)
        if call is not None:
            call.sends_on(self._network_stream.get_extra_info("socket"))
        return original(self, request)

    return send_request_headers


def _async_pool(original: Method) -> Method:
    @wraps(original)
    async def handle_async_request(self: Any, request: Any) -> Any:
        call = _begin(request)
        if call is None:
            return await original(self, request)
        try:
            response = await original(self, request)
        except BaseException:
            call.close()
            call.raise_if_cut()
            raise
        response.stream = _AsyncStream(response.stream, call)
        return response

    return handle_async_request


def _async_connection(original: Method) -> Method:
    @wraps(original)
    async def send_request_headers(self: Any, request: Any) -> Any:
        call: Call | None = request.extensions.get(_CALL)
        if call is not None:
            call.sends_on(self._network_stream.get_extra_info("socket"))
        return await original(self, request)

    return send_request_headers


class _Stream:
    """The body of a response, which says when its call was cut and when it is over."""

    def __init__(self, stream: Any, call: Call) -> None:
        self._stream = stream
        self._call = call

    def __iter__(self) -> Iterator[bytes]:
        call = self._call
        try:
            for part in self._stream:
                if call.is_cut:
                    break
                yield part
        except GeneratorExit:
            call.close()
            raise
        except BaseException:
            call.close()
            call.raise_if_cut()
            raise
        if call.is_cut:
            self.close()
            call.raise_if_cut()

    def close(self) -> None:
        # Before the connection is given back to the pool and to another task.
        self._call.close()
        if hasattr(self._stream, "close"):
            self._stream.close()


class _AsyncStream:
    """The same for an async response."""

    def __init__(self, stream: Any, call: Call) -> None:
        self._stream = stream
        self._call = call

    async def __aiter__(self) -> AsyncIterator[bytes]:
        call = self._call
        try:
            async for part in self._stream:
                if call.is_cut:
                    break
                yield part
        except GeneratorExit:
            call.close()
            raise
        except BaseException:
            call.close()
            call.raise_if_cut()
            raise
        if call.is_cut:
            await self.aclose()
            call.raise_if_cut()

    async def aclose(self) -> None:
        self._call.close()
        if hasattr(self._stream, "aclose"):
            await self._stream.aclose()

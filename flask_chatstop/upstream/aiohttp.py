"""Tracking the calls of aiohttp, and of litellm, aiobotocore and others that use it.

A call begins with ``connector.connect()``, which returns a connection that belongs to
the call alone. It ends when that connection is closed or goes back to the pool: both
run the callbacks of the connection first. A websocket is left alone, since it may serve
other tasks.
"""

import weakref
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from functools import partial, wraps
from typing import Any

from flask_chatstop.errors import SourceStopped
from flask_chatstop.upstream.calls import Call, bound_calls
from flask_chatstop.upstream.shape import Hook, UnknownShape, expect

# The attribute of a connection's protocol that holds the call, its context and its
# connection.
_CALL = "_chatstop_call"


def hooks(library: Any) -> list[Hook]:
    """Return the hooks into aiohttp 3.

    :raises UnknownShape: the library is not as known.
    """
    connector = library.BaseConnector
    connection = library.connector.Connection
    protocol = library.client_proto.ResponseHandler
    expect(connector, "connect", ["self", "req", "traces", "timeout"])
    expect(connection, "add_callback", ["self", "callback"])
    for method in ("close", "release"):
        expect(connection, method, ["self"], sets="_notify_release")
    expect(protocol, "set_exception", ["self", "exc"])
    expect(protocol, "connection_lost", ["self", "exc"], sets="_payload")
    expect(protocol, "connection_lost", sets="_parser")
    expect(library.StreamReader, "set_exception", ["self", "exc"])
    expect(protocol, "force_close", ["self"])
    if not protocol.__dictoffset__ or not connection.__weakrefoffset__:
        raise UnknownShape("a class with slots")
    return [
        (connector, "connect", _connect),
        (protocol, "connection_lost", _connection_lost),
    ]


def _begin(request: Any) -> Call | None:
    calls = bound_calls()
    if calls is None or "Upgrade" in request.headers:
        return None
    url = request.url
    return calls.open(
        (url.scheme, url.host, url.port), request.headers.get("User-Agent", "")
    )


def _connect(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @wraps(original)
    async def connect(self: Any, req: Any, *more: Any, **options: Any) -> Any:
        call = _begin(req)
        if call is None:
            return await original(self, req, *more, **options)
        try:
            connection = await original(self, req, *more, **options)
        except BaseException:
            call.close()
            call.raise_if_cut()
            raise
        try:
            protocol = connection.protocol
            setattr(protocol, _CALL, (call, copy_context(), weakref.ref(connection)))
            connection.add_callback(partial(_end, call, protocol))
            call.sends_on(connection.transport.get_extra_info("socket"))
        except BaseException:
            connection.close()
            raise
        return connection

    return connect


def _end(call: Call, protocol: Any) -> None:
    # Before the connection is given back to the pool and to another task.
    call.close()
    setattr(protocol, _CALL, None)
    if call.is_cut and protocol.transport is not None:
        # The loop may not have noticed yet that it is shut down.
        protocol.force_close()
        protocol.transport.abort()


def _connection_lost(original: Callable[..., None]) -> Callable[..., None]:
    @wraps(original)
    def connection_lost(self: Any, exc: BaseException | None) -> None:
        held = getattr(self, _CALL, None)
        if held is None:
            original(self, exc)
            return
        call, context, connection = held
        call.close()
        try:
            context.run(call.raise_if_cut)
        except SourceStopped as stopped:
            _raise_in_readers(self, stopped.with_traceback(None))
        original(self, exc)
        if call.is_cut and (cut := connection()) is not None:
            # The response may be garbage, which would hold a place in the pool until it
            # is collected, and then be logged as unclosed.
            cut.close()

    return connection_lost


def _raise_in_readers(protocol: Any, stopped: SourceStopped) -> None:
    """Have whoever waits for the headers or the body told of the stop."""
    protocol.set_exception(stopped)
    if protocol._payload is not None:
        protocol._payload.set_exception(stopped)
    # Or it would report an answer that is incomplete, or even one that is whole.
    protocol._payload = protocol._parser = None

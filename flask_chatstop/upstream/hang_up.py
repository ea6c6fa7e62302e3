"""Hanging up on one response, for what the tracking of calls does not know."""

import asyncio
import socket
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial

from flask_chatstop.logs import get_logger
from flask_chatstop.upstream.shut_down import shut_down

logger = get_logger(__name__)

# Where wrappers keep the response below them: openai, anthropic and requests; litellm;
# botocore. openai's stream helpers have no public name for it.
_WRAPPERS = (
    "response",
    "http_response",
    "raw",
    "_response",
    "completion_stream",
    "_raw_stream",
)
# What ends a thing that is no response: a gRPC call, a process.
_ENDS = ("cancel", "terminate")


def hang_up(response: object) -> bool:
    """Shut down the connection that a response is being read from.

    The provider sees the connection close, and a thread that is blocked in a read
    wakes with its library's connection error. Any thread may call it, and it returns
    at once. Closing a response does neither while another thread reads it.

    A stop hangs up by itself on the HTTP calls that a source makes. This is for
    responses that were opened elsewhere, and for other libraries.

    An HTTP/2 connection is left alone, since other responses share it.

    :param response: a streaming response of httpx, requests or urllib3, a stream of
        openai, anthropic, litellm or botocore, a socket, a gRPC call, a process, or
        anything with a ``shutdown()``, ``cancel()`` or ``terminate()``.
    :returns: whether there was an open connection to shut down.
    """
    way = _way(response)
    return way is not None and way()


def warn_of_unknown(response: object) -> None:
    """Log what to do about a response that :func:`hang_up` does not know."""
    if response is None or _way(response) is not None:
        return
    if isinstance(response, asyncio.Future):
        advice = "give loop.call_soon_threadsafe(task.cancel) to task.on_stop()"
    elif isinstance(response, Generator):
        advice = "give the provider's streaming response as upstream"
    elif callable(getattr(response, "close", None)):
        advice = "give its close() to task.on_stop()"
    elif callable(getattr(response, "aclose", None)):
        advice = "have its event loop close it by task.on_stop()"
    else:
        advice = (
            "give the provider's streaming response as upstream, or what ends it to"
            " task.on_stop()"
        )
    logger.warning("Cannot hang up on a %s; %s.", type(response).__name__, advice)


def _way(response: object) -> Callable[[], bool] | None:
    """Return what hangs up on the first layer that is known."""
    for layer in _layers(response):
        extensions = getattr(layer, "extensions", None)
        if isinstance(extensions, Mapping) and "network_stream" in extensions:
            return partial(_hang_up_httpx, layer, extensions)
        if isinstance(layer, socket.socket):
            return partial(shut_down, layer)
        # urllib3's shutdown() is SSLSocket's on TLS, and of the reading side only.
        sock = getattr(getattr(layer, "_sock_shutdown", None), "__self__", None)
        if isinstance(sock, socket.socket):
            return partial(_hang_up_urllib3, layer, sock)
        shutdown = getattr(layer, "shutdown", None)
        if callable(shutdown):
            return partial(_call, shutdown)
    if not isinstance(response, asyncio.Future):
        for name in _ENDS:
            end = getattr(response, name, None)
            if callable(end):
                return partial(_call, end)
    return None


def _hang_up_urllib3(response: object, sock: socket.socket) -> bool:
    in_use = getattr(response, "_connection", None) is not None
    return in_use and shut_down(sock)


def _call(end: Callable[[], object]) -> bool:
    try:
        end()
    except (OSError, RuntimeError, ValueError):  # closed, or in the pool again
        return False
    return True


def _layers(response: object) -> Iterator[object]:
    seen: list[object] = []
    while response is not None and not any(response is layer for layer in seen):
        yield response
        seen.append(response)
        inner = (getattr(response, name, None) for name in _WRAPPERS)
        response = next((layer for layer in inner if layer is not None), None)


def _hang_up_httpx(response: object, extensions: Mapping[str, object]) -> bool:
    if getattr(response, "is_closed", False):
        return False  # its connection may be serving another request by now
    if "stream_id" in extensions:
        logger.warning(
            "Cannot hang up on one response of a shared HTTP/2 connection; use an"
            " HTTP/1.1 client for the model provider."
        )
        return False
    get_extra_info = getattr(extensions["network_stream"], "get_extra_info", None)
    sock = get_extra_info("socket") if get_extra_info else None
    return sock is not None and shut_down(sock)

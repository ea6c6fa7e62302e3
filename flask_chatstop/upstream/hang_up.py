"""Hanging up on a model provider, even while it is silent."""

import logging
import socket
from collections.abc import Callable, Iterator, Mapping
from functools import partial

logger = logging.getLogger(__name__)

# Where openai's and anthropic's streams and requests' responses keep the response of
# the HTTP library below them; openai's stream helpers have no public name for it.
_WRAPPERS = ("response", "http_response", "raw", "_response")


def hang_up(response: object) -> bool:
    """Shut down the connection that a response is being read from.

    The provider sees the connection close, and a thread that is blocked in a read
    wakes with its library's connection error. May be called from any thread; returns
    at once. Closing a response does neither of this while it is being read.

    An HTTP/2 connection is left alone, since other responses share it.

    :param response: a streaming response of httpx, requests or urllib3, a stream of
        openai or anthropic, a socket, or anything with a ``shutdown()``.
    :returns: whether there was an open connection to shut down.
    """
    way = _way(response)
    return way is not None and way()


def warn_of_unknown(response: object) -> None:
    """Log that a response is nothing that :func:`hang_up` knows, if it is so."""
    if response is not None and _way(response) is None:
        logger.warning(
            "Cannot hang up on a %s; give the provider's streaming response as"
            " upstream, or what closes it to on_stop.",
            type(response).__name__,
        )


def _way(response: object) -> Callable[[], bool] | None:
    """Give what hangs up on the first layer that is known."""
    for layer in _layers(response):
        extensions = getattr(layer, "extensions", None)
        if isinstance(extensions, Mapping) and "network_stream" in extensions:
            return partial(_hang_up_httpx, layer, extensions)
        if isinstance(layer, socket.socket):
            return partial(_shut_down, layer)
        # urllib3's shutdown() is SSLSocket's on TLS, and of the reading side only.
        sock = getattr(getattr(layer, "_sock_shutdown", None), "__self__", None)
        if isinstance(sock, socket.socket):
            return partial(_hang_up_urllib3, layer, sock)
        shutdown = getattr(layer, "shutdown", None)
        if callable(shutdown):
            return partial(_call, shutdown)
    return None


def _hang_up_urllib3(response: object, sock: socket.socket) -> bool:
    in_use = getattr(response, "_connection", None) is not None
    return in_use and _shut_down(sock)


def _call(shutdown: Callable[[], object]) -> bool:
    try:
        shutdown()
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
    return isinstance(sock, socket.socket) and _shut_down(sock)


def _shut_down(sock: socket.socket) -> bool:
    try:
        # Not SSLSocket.shutdown: it drops the TLS layer under the reader, which could
        # then read ciphertext as if it were the answer.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        return False
    return True

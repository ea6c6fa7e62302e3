"""Closing the connection of a client that has vanished, where the server shows it."""

import contextlib
import socket
from typing import Any

from flask import has_request_context, request

# gunicorn and Werkzeug's server put the connection there. Other servers do not.
_SOCKETS = ("gunicorn.socket", "werkzeug.socket")
_LONGEST = 2**31 - 1


def set_client_timeout(seconds: float) -> None:
    """Let the kernel close this request's connection when its client is gone.

    A client that vanished without closing, like a phone without a network,
    acknowledges nothing. By default a kernel goes on sending for a quarter of an hour
    and accepts every ping meanwhile: see ``tcp_retries2`` in
    https://docs.kernel.org/networking/ip-sysctl.html. The timeout also counts for a
    client that reads nothing, whose window is shut.
    """
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is None or not has_request_context():
        return
    found = (request.environ.get(name) for name in _SOCKETS)
    sock: Any = next((sock for sock in found if sock is not None), None)
    milliseconds = min(round(seconds * 1000), _LONGEST)
    # It may be a Unix socket, or something else in a server's next version.
    with contextlib.suppress(OSError, AttributeError, TypeError):
        sock.setsockopt(socket.IPPROTO_TCP, option, milliseconds)

"""Finding out that a client has vanished, where the server shows its connection."""

import contextlib
import socket
from typing import Any

from flask import has_request_context, request

# Of gunicorn and of Werkzeug. Other servers keep it to themselves.
_SOCKETS = ("gunicorn.socket", "werkzeug.socket")
_LONGEST = 2**31 - 1


def give_up_after(seconds: float) -> None:
    """Have the connection of this request broken off when nobody is at its other end.

    A client that vanished without closing it, like a phone without a network, is one
    that acknowledges nothing. A kernel that is not told otherwise goes on sending for
    a quarter of an hour, and takes every ping meanwhile: see ``tcp_retries2`` in
    https://docs.kernel.org/networking/ip-sysctl.html. A client that takes nothing for
    so long, its window shut, is given up too.
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

"""Waiting for a driver's socket, on every system."""

import select
from typing import Any


def can_read(sock: Any, seconds: float = 0.0) -> bool:
    """Return whether a socket has something to read, or was closed by its peer.

    :param sock: anything with a ``fileno()``.
    :param seconds: how long to wait for it.
    """
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        return bool(poll.poll(1000 * seconds))
    # Windows. Elsewhere it refuses the sockets of a process that has very many.
    return bool(select.select([sock.fileno()], [], [], seconds)[0])

"""Shutting down the socket under a response.

Closing a response from another thread neither wakes the thread that reads it nor tells
the provider. Shutting down its socket does both at once.
"""

import socket


def shut_down(sock: object) -> bool:
    """Shut down both directions of a socket; any thread may call it.

    :param sock: a socket, or anything with a ``fileno()``, like the socket of an
        asyncio transport.
    :returns: whether it was open.
    """
    try:
        if isinstance(sock, socket.socket):
            # Not SSLSocket.shutdown: it drops the TLS layer under the reader, which
            # could then read ciphertext as if it were the answer.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
            return True
        # The sockets of asyncio's, uvloop's and trio's transports are classes of
        # their own, not all of which have a shutdown().
        fileno = getattr(sock, "fileno", None)
        if fileno is None:
            return False
        # Not os.dup: on Windows a socket is no file of the process.
        with socket.socket(fileno=socket.dup(fileno())) as copy:
            copy.shutdown(socket.SHUT_RDWR)
    except (OSError, ValueError):  # closed
        return False
    return True

"""Ports for servers that are told theirs, and may be started there again."""

import random
import socket

# Below those that Linux gives to the near end of a connection, 32768 to 60999: such a
# one may be taken between its choice and the start of its server, or while a test has
# stopped the server. A client that tries to reach it meanwhile may even connect to
# itself. A cluster's node listens at the port 10,000 above as well, which is below too.
_PORTS = range(10_500, 22_500)


def free_port() -> int:
    """Return a port of this host's at which nobody listens."""
    while True:
        port = random.SystemRandom().choice(_PORTS)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port

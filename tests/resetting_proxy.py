"""A proxy that breaks connections as a balancer does that has forgotten them."""

import socket
import struct
import threading

_BEFORE, _AFTER = "before", "after"


class ResettingProxy:
    """Forward to a port of this host, and reset a connection when told to."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._armed: str | None = None

    def reset_before(self) -> None:
        """Reset at the next command, before it reaches the server."""
        self._armed = _BEFORE

    def reset_after(self) -> None:
        """Reset at the next command, when the server has answered it."""
        self._armed = _AFTER

    def __enter__(self) -> "ResettingProxy":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            while command := client.recv(65536):
                armed, self._armed = self._armed, None
                if armed != _BEFORE:
                    server.sendall(command)
                    answer = server.recv(65536)
                if armed:
                    # Closing without lingering is what sends a reset.
                    linger = struct.pack("ii", 1, 0)
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    return
                client.sendall(answer)

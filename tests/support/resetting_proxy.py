"""A proxy that breaks connections as a balancer does that has forgotten them."""

import select
import socket
import struct
import threading
from contextlib import suppress
from typing import Self

_BEFORE, _AFTER = "before", "after"


class ResettingProxy:
    """Forward to a port of this host, and reset connections when told to."""

    def __init__(self, port: int, listener: socket.socket | None = None) -> None:
        self._target = port
        self._listener = listener or socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._armed: str | None = None
        self._is_open = True
        self._clients: list[socket.socket] = []

    def reset_before(self) -> None:
        """Reset at the next command, before it reaches the server."""
        self._armed = _BEFORE

    def reset_after(self) -> None:
        """Reset at the next command, when the server has answered it."""
        self._armed = _AFTER

    def refuse(self) -> None:
        """Reset every connection, those to come included."""
        self._is_open = False
        for client in self._clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def redirect(self, port: int) -> None:
        """Forward new connections to another server; the others stay."""
        self._target = port

    def admit(self) -> None:
        """Let connections through again."""
        self._is_open = True

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if not self._is_open:
                    client.close()
                    continue
                self._clients.append(client)
                threading.Thread(
                    target=self._serve, args=(client,), daemon=True
                ).start()

    def _serve(self, client: socket.socket) -> None:
        # One thread for both ways: a socket that another one reads is not closed.
        with (
            client,
            suppress(OSError),  # the server may be down just now
            socket.create_connection(("127.0.0.1", self._target)) as server,
        ):
            others = {client: server, server: client}
            moments = {client: _BEFORE, server: _AFTER}
            while True:
                for source in select.select(others, [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    if self._take(moments[source]):
                        # Closing without lingering is what sends a reset.
                        linger = struct.pack("ii", 1, 0)
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                        return
                    change = self.change if source is server else self.change_command
                    others[source].sendall(change(data))

    def change(self, answer: bytes) -> bytes:
        """Give what the client gets in place of what the server sent."""
        return answer

    def change_command(self, command: bytes) -> bytes:
        """Give what the server gets in place of what the client sent."""
        return command

    def _take(self, moment: str) -> bool:
        is_armed = self._armed == moment
        if is_armed:
            self._armed = None
        return is_armed

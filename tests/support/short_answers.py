"""A server on loopback that gives short answers on connections that are kept."""

import socket
import threading
import time
from types import TracebackType
from typing import Self


class ShortAnswers:
    """Answers each request within a millisecond, in two pieces.

    :param seconds: between the two.
    """

    body = b"short answer"

    def __init__(self, seconds: float = 0.001) -> None:
        self.seconds = seconds
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(
                target=self._serve, args=(connection,), daemon=True
            ).start()

    def _serve(self, connection: socket.socket) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(self.body)
        received = b""
        with connection:
            try:
                while data := connection.recv(65536):
                    received += data
                    while b"\r\n\r\n" in received:
                        _, _, received = received.partition(b"\r\n\r\n")
                        connection.sendall(head + self.body[:5])
                        time.sleep(self.seconds)
                        connection.sendall(self.body[5:])
            except OSError:
                pass  # hung up on

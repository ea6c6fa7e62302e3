"""A model provider on loopback, which speaks the real streaming formats."""

import json
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any, BinaryIO

from tests.providers.formats import FORMATS

TOKENS = ["One ", "two ", "three "]

#: What a provider does with each request for an answer: it goes on with 100 tokens a
#: second for ever, says nothing after the first tokens, does not even send the headers
#: of its response, or comes to an end by itself.
MODES = ["talking", "silent", "no-headers", "ending"]


class Call:
    """One request to the provider, and what became of it."""

    def __init__(self, path: str, body: bytes) -> None:
        self.path = path
        self.body = body
        self.arrived_at = time.monotonic()
        #: What the mode is about has come: the first tokens are sent, or the request
        #: is here that gets no headers.
        self.is_settled = False
        #: The answer came to its own end, and the connection may serve another call.
        self.answered = threading.Event()
        #: The peer has closed the connection, before or after the end of the answer.
        self.closed = threading.Event()

    def __repr__(self) -> str:
        state = "answered" if self.answered.is_set() else "open"
        return f"<Call {self.path} {'closed' if self.closed.is_set() else state}>"


class _HungUp(Exception):
    """The peer has closed the connection."""


class Provider:
    """An HTTP/1.1 server for the streaming APIs of several model providers.

    A POST to ``/saves`` is answered at once: it stands for the app's own storage. So is
    any POST whose path ends in ``/cancel``.
    """

    def __init__(self, mode: str = "silent", tls: ssl.SSLContext | None = None) -> None:
        assert mode in MODES
        self.mode = mode
        #: To be set when a silent answer is to come to its end.
        self.go_on = threading.Event()
        self.calls: list[Call] = []
        self._changed = threading.Condition()
        self._tls = tls
        self._connections: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://localhost:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Cut every connection, so that no client of a failed test waits on."""
        # close() alone does not wake the thread that accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._changed:
            for connection in self._connections:
                with suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def wait_until_settled(self, timeout: float = 60) -> Call:
        """Wait until an answer has come to what the mode is about."""
        with self._changed:
            settled = self._changed.wait_for(self._settled, timeout)
        assert settled, f"no answer came so far; there were {self.calls}"
        return settled[0]

    def _settled(self) -> list[Call]:
        return [call for call in self.calls if call.is_settled]

    def wait_for_request(self, path: str, timeout: float = 60) -> Call:
        """Wait for a request of this path."""
        with self._changed:
            found = self._changed.wait_for(lambda: self._to(path), timeout)
        assert found, f"no request to {path} came; there were {self.calls}"
        return found[0]

    def _to(self, path: str) -> list[Call]:
        return [call for call in self.calls if call.path == path]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(
                target=self._serve, args=(connection,), daemon=True
            ).start()

    def _serve(self, connection: socket.socket) -> None:
        calls: list[Call] = []
        try:
            with suppress(OSError), connection:
                # A connection that dies in its handshake never was one.
                if self._tls is not None:
                    connection = self._tls.wrap_socket(connection, server_side=True)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._changed:
                    self._connections.add(connection)
                with connection, connection.makefile("rb") as reader:
                    while (call := _read_call(reader)) is not None:
                        calls.append(call)
                        with self._changed:
                            self.calls.append(call)
                            self._changed.notify_all()
                        self._answer(connection, call)
                        call.answered.set()
        except _HungUp:
            pass
        finally:
            with self._changed:
                self._connections.discard(connection)
            for call in calls:
                call.closed.set()

    def _answer(self, connection: socket.socket, call: Call) -> None:
        if call.path == "/saves" or call.path.endswith("/cancel"):
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                b"Content-Length: 2\r\n\r\n{}"
            )
            return
        body: dict[str, Any] = json.loads(call.body or b"{}")
        answer = next((form for form in FORMATS if form.PATH.search(call.path)), None)
        if answer is None:
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        parts = answer.parts(body, self._tokens(connection, call))
        if self.mode == "no-headers":
            # Of an agent's two answers, the one with a tool call in it asks for no
            # token, and comes whole.
            parts = iter(list(parts))
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n"
            % answer.CONTENT_TYPE.encode()
        )
        for part in parts:
            connection.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        connection.sendall(b"0\r\n\r\n")

    def _tokens(self, connection: socket.socket, call: Call) -> Iterator[str]:
        # Each is asked for when the one before it has been sent.
        if self.mode != "no-headers":
            yield from TOKENS
        with self._changed:
            call.is_settled = True
            self._changed.notify_all()
        while self.mode != "ending" and not self.go_on.is_set():
            # A client that waits for an answer sends nothing: this is its leaving.
            if select.select([connection], [], [], 0.01)[0]:
                raise _HungUp
            if self.mode == "talking":
                yield "more "


def _read_call(reader: BinaryIO) -> Call | None:
    words = reader.readline().split()
    if not words:
        return None
    length = 0
    while line := reader.readline().strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return Call(words[1].decode(), reader.read(length))


def provider(
    mode: str = "silent", tls: ssl.SSLContext | None = None
) -> closing[Provider]:
    """Run a provider for the length of a with block."""
    return closing(Provider(mode, tls))

"""A model provider on loopback: says three tokens, goes silent, notices a hang-up."""

import json
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

TOKENS = ["One ", "two ", "three "]


class Call:
    """One request to the provider, and what became of its connection."""

    def __init__(self) -> None:
        self.silent = threading.Event()
        self.closed = threading.Event()


class Provider:
    """An HTTP/1.1 server for the streaming APIs of OpenAI and Anthropic.

    With ``then="silence"`` it says nothing after the tokens until the client hangs
    up, with ``"hold"`` it gives no token either, with ``"mute"`` not even headers, with
    ``"busy"`` it asks for another try in a second, with ``"talk"`` it goes on with 100
    tokens a second, with ``"flood"`` with as many as are taken, with ``"end"`` it ends
    the answer, with ``"crash"`` it cuts the connection.
    """

    def __init__(
        self, then: str = "silence", tls: ssl.SSLContext | None = None
    ) -> None:
        self.then = then
        self.calls: list[Call] = []
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://localhost:{self._listener.getsockname()[1]}/v1"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

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
        call = Call()
        # A client may hang up at any time: in the handshake, and as it asks, too. What
        # is raised in a thread fails the test that runs by then.
        with suppress(OSError), connection:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection, connection.makefile("rb") as reader:
                path = _read_request(reader)
                if path is None:
                    return  # connected to, and not asked
                # Before the call is known: then the next one may be told otherwise.
                then = self.then
                self.calls.append(call)
                try:
                    _answer(connection, path, call, then)
                finally:
                    call.closed.set()


def _answer(connection: socket.socket, path: str, call: Call, then: str) -> None:
    if then == "mute":
        call.silent.set()
        connection.recv(1)
        return
    if then == "busy":
        connection.sendall(
            b"HTTP/1.1 429 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n"
            b"Connection: close\r\n\r\n"
        )
        call.silent.set()
        return
    connection.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    if then != "hold":
        for event in _EVENTS.get(path.rpartition("/")[2], _openai)():
            connection.sendall(b"%x\r\n%s\r\n" % (len(event), event))
    if then == "end":
        done = b"data: [DONE]\n\n"
        connection.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(done), done))
    if then == "talk":
        while not select.select([connection], [], [], 0.01)[0]:
            connection.sendall(b"%x\r\n%s\r\n" % (len(_MORE), _MORE))
    if then == "flood":
        while select.select([], [connection], [], 1.0)[1]:
            # As one that a full buffer blocks in the middle of a token.
            connection.send(b"%x\r\n%s\r\n" % (len(_MORE), _MORE))
    if then != "crash":
        call.silent.set()
        # Blocks until the client closes its end: nothing else is ever sent.
        connection.recv(1)


def _read_request(reader: BinaryIO) -> str | None:
    first = reader.readline()
    if not first.endswith(b"\n"):
        return None
    path = str(first.split()[1], "ascii")
    length = 0
    while line := reader.readline().strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    reader.read(length)
    return path


def _sse(payload: dict[str, object], event: str | None = None) -> bytes:
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {json.dumps(payload)}\n\n".encode()


def _chunk(token: str) -> bytes:
    delta = {"index": 0, "delta": {"content": token}, "finish_reason": None}
    return _sse(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "loopback",
            "choices": [delta],
        }
    )


def _openai() -> Iterator[bytes]:
    return map(_chunk, TOKENS)


def _anthropic() -> Iterator[bytes]:
    message: dict[str, object] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "loopback",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    yield _sse({"type": "message_start", "message": message}, "message_start")
    block = {"type": "text", "text": ""}
    start = {"type": "content_block_start", "index": 0, "content_block": block}
    yield _sse(start, "content_block_start")
    for token in TOKENS:
        delta = {"type": "text_delta", "text": token}
        event = {"type": "content_block_delta", "index": 0, "delta": delta}
        yield _sse(event, "content_block_delta")


def _responses() -> Iterator[bytes]:
    for number, token in enumerate(TOKENS):
        name = "response.output_text.delta"
        place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        delta = {"type": name, "sequence_number": number, **place, "delta": token}
        yield _sse({**delta, "logprobs": []}, name)


_EVENTS = {"messages": _anthropic, "responses": _responses}
_MORE = _chunk("more ")


@contextmanager
def provider(
    then: str = "silence", tls: ssl.SSLContext | None = None
) -> Iterator[Provider]:
    """Run a provider for the length of a with block."""
    server = Provider(then, tls)
    try:
        yield server
    finally:
        server.close()

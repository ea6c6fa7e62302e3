"""A model provider in a process of its own, that notes when its client hangs up."""

import itertools
import math
import multiprocessing
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

MODELS = ("silent", "talking")
#: A model that does not even send the headers of its response.
MUTE = "mute"
#: Seconds between two chunks of a model that talks.
PACE = 0.02
_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_CHUNK = b"5\r\npiece\r\n"
# What openai's client asks for has this path below its base URL, and is answered so.
_CHAT = "/chat/completions"
_CHAT_HEAD = _HEAD.replace(b"\r\n\r\n", b"\r\nContent-Type: text/event-stream\r\n\r\n")
_CHAT_EVENT = (
    b'data: {"id":"1","object":"chat.completion.chunk","created":0,"model":"loopback",'
    b'"choices":[{"index":0,"delta":{"content":"piece"},"finish_reason":null}]}\n\n'
)
_CHAT_CHUNK = b"%x\r\n%s\r\n" % (len(_CHAT_EVENT), _CHAT_EVENT)


@dataclass(slots=True)
class _Client:
    socket: socket.socket
    received: bytes = b""
    path: str = ""
    head: bytes = _HEAD
    chunk: bytes = _CHUNK


@dataclass(slots=True)
class _Server:
    """The provider itself, in its own process."""

    listener: socket.socket
    pipe: Connection
    clients: dict[str, _Client] = field(default_factory=dict)
    #: When who is sent the next chunk, in this order.
    due: deque[tuple[float, _Client]] = field(default_factory=deque)
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def run(self) -> None:
        self.selector.register(self.listener, selectors.EVENT_READ, self._accept)
        self.selector.register(self.pipe, selectors.EVENT_READ, self._drop)
        while True:
            pause = max(0.0, self.due[0][0] - time.monotonic()) if self.due else None
            for key, _ in self.selector.select(pause):
                if isinstance(key.data, _Client):
                    self._receive(key.data)
                else:
                    key.data()
            while self.due and self.due[0][0] <= time.monotonic():
                self._send(self.due.popleft()[1])

    def _accept(self) -> None:
        connection, _ = self.listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.selector.register(connection, selectors.EVENT_READ, _Client(connection))

    def _drop(self) -> None:
        if client := self.clients.get(self.pipe.recv()):
            self._close(client)

    def _receive(self, client: _Client) -> None:
        data = b""
        with suppress(ConnectionError):
            data = client.socket.recv(65536)
        if not data:
            self._close(client)
            return
        client.received += data
        if not client.path and b"\r\n\r\n" in client.received:
            client.path = client.received.split()[1].decode()
            if client.path.endswith(_CHAT):
                client.path = client.path.removesuffix(_CHAT)
                client.head, client.chunk = _CHAT_HEAD, _CHAT_CHUNK
            self.clients[client.path] = client
            if not client.path.startswith(f"/{MUTE}/"):
                client.socket.sendall(client.head)
                self._send(client)
            self.pipe.send((client.path, "begun", time.monotonic()))

    def _send(self, client: _Client) -> None:
        if client.socket.fileno() < 0:
            return
        # A client that has gone is noticed by the read that is due then.
        with suppress(ConnectionError):
            client.socket.sendall(client.chunk)
        if client.path.startswith("/talking"):
            self.due.append((time.monotonic() + PACE, client))

    def _close(self, client: _Client) -> None:
        self.pipe.send((client.path, "closed", time.monotonic()))
        self.clients.pop(client.path, None)
        self.selector.unregister(client.socket)
        client.socket.close()


def _serve(pipe: Connection) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        pipe.send(listener.getsockname()[1])
        with suppress(EOFError, KeyboardInterrupt):
            _Server(listener, pipe).run()


class Call:
    """One answer of the provider.

    :param asked: what its client puts behind the URL that it is given.
    """

    def __init__(self, provider: "Provider", path: str, asked: str = "") -> None:
        self._provider = provider
        self._path = path + asked
        self.url = provider.url + path

    def wait_until_begun(self) -> None:
        """Wait for the first chunk to be sent."""
        begun = self._provider.moment(self._path, "begun", time.monotonic() + 30)
        assert begun < math.inf, "nobody has called the provider"

    def closed_by(self, deadline: float) -> float:
        """Wait for the client to close, and give the moment, or infinity.

        Then the provider closes the connection itself.
        """
        moment = self._provider.moment(self._path, "closed", deadline)
        if moment == math.inf:
            self._provider.drop(self._path)
        return moment


class Provider:
    """What the benchmark knows of the provider's process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.url = f"http://127.0.0.1:{pipe.recv()}"
        self._numbers = itertools.count()
        self._moments: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def call(self, model: str, asked: str = "") -> Call:
        """Name an answer that somebody is to ask the provider for."""
        return Call(self, f"/{model}/{next(self._numbers)}", asked)

    def moment(self, path: str, what: str, deadline: float) -> float:
        """Wait until something has happened, and give its moment, or infinity.

        Nothing is received before it is asked for: a thread that did would take time
        from the one that measures.
        """
        key = path, what
        while key not in self._moments and time.monotonic() < deadline:
            with self._lock:
                if self._pipe.poll(0.01):
                    *happened, moment = self._pipe.recv()
                    self._moments[tuple(happened)] = moment
        moment = self._moments.get(key, math.inf)
        return moment if moment <= deadline else math.inf

    def drop(self, path: str) -> None:
        """Have the provider close a connection."""
        self._pipe.send(path)


@contextmanager
def run_provider() -> Iterator[Provider]:
    """Run a provider for the length of a with block."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(theirs,), daemon=True
    )
    process.start()
    theirs.close()
    try:
        yield Provider(ours)
    finally:
        process.kill()
        process.join()
        ours.close()

"""A client that measures what a stop does, through two gunicorn servers."""

import json
import math
import multiprocessing
import random
import selectors
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.support.provider import MUTE, Provider
from tests.support.servers.gunicorn import AUTH, Server, gunicorn

#: Seconds that a stop may take; what takes longer counts as never.
LIMIT = 5.0


@dataclass(frozen=True, slots=True)
class Effects:
    """Seconds from a stop to what it does, infinite for what it does not.

    :param last_byte: the end of the client's stream, or of a job.
    :param closed: the provider has seen its connection closed.
    """

    last_byte: float
    closed: float


#: By model, the rounds.
Stops = dict[str, list[Effects]]


def times(stops: Sequence[Effects], effect: str) -> list[float]:
    """Give the seconds to one of the effects."""
    return [getattr(stop, effect) for stop in stops]


def median(times: Sequence[float]) -> float:
    """Give the median in milliseconds."""
    return 1000 * statistics.median(times)


def p99(times: Sequence[float]) -> float:
    """Give the 99th percentile in milliseconds."""
    return 1000 * sorted(times)[int(0.99 * len(times))]


def describe(times: Sequence[float]) -> str:
    """Give the median and the 99th percentile as text, the longest of a few."""
    name = "p99" if len(times) >= 100 else "longest"
    if median(times) == math.inf:
        return _text(math.inf)
    return f"{_text(median(times))} ({name} {_text(p99(times))})"


def times_longer(theirs: Sequence[float], ours: Sequence[float]) -> str:
    """Tell how many times longer a median is, where it is not infinite."""
    ratio = median(theirs) / median(ours)
    return "" if ratio == math.inf else f", {ratio:,.{0 if ratio >= 10 else 1}f} times"


def _text(milliseconds: float) -> str:
    if milliseconds == math.inf:
        return f"not within {LIMIT:g} s"
    return f"{milliseconds:,.{0 if milliseconds >= 100 else 2}f} ms"


def wait_at_random(spread: float) -> None:
    """Let what is measured begin at any moment, from rest."""
    time.sleep(random.uniform(0, spread))


class Connection:
    """A kept connection, that knows no more of HTTP than it has to."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._host = address.netloc
        self.socket = socket.create_connection((address.hostname, address.port), 30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""

    def send(self, path: str, **fields: object) -> None:
        """Send a request of alice's."""
        body = json.dumps({"user": "alice", **fields})
        self._send(
            f"POST {path} HTTP/1.1",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}\r\n\r\n{body}",
        )

    def follow(self, task_id: str) -> None:
        """Ask for an answer of alice's from its beginning."""
        path = f"/v1/chat-messages/{task_id}/events?user=alice"
        self._send(f"GET {path} HTTP/1.1", "Accept: text/event-stream\r\n\r\n")

    def _send(self, request: str, *lines: str) -> None:
        head = (f"Host: {self._host}", f"Authorization: {AUTH['Authorization']}")
        self.socket.sendall("\r\n".join([request, *head, *lines]).encode())

    def until(self, end: bytes) -> bytes:
        """Receive up to some bytes, and give what came."""
        while (found := self._received.find(end)) < 0:
            data = self.socket.recv(65536)
            assert data, "the server closed the connection"
            self._received += data
        found += len(end)
        received, self._received = self._received[:found], self._received[found:]
        return received


class Client:
    """Measures one stop, or one bare answer, at a time."""

    def __init__(self, servers: Sequence[Server], provider: Provider) -> None:
        self._streams, self._stops = (Connection(server.url) for server in servers)
        self._provider = provider

    def stop(self, model: str, spread: float, **fields: object) -> Effects:
        """Stop an answer after its first piece, at a random moment of a spread.

        One whose model is mute is stopped after the provider has got the request.

        :param fields: of the request for the answer.
        """
        call = self._provider.call(model)
        self._streams.send("/v1/chat-messages", provider=call.url, **fields)
        begun = self._streams.until(b'"answer":""' if model == MUTE else b'"piece"')
        if model == MUTE:
            call.wait_until_begun()
        task_id = begun.partition(b'"task_id":"')[2].partition(b'"')[0].decode()
        wait_at_random(spread)
        sent = time.monotonic()
        self._stops.send(f"/v1/chat-messages/{task_id}/stop")
        rest = self._streams.until(b"\r\n0\r\n\r\n")
        last_byte = time.monotonic() - sent
        assert b'"end_reason":"stopped"' in rest, rest
        self._stops.until(b'"success"}')
        closed = call.closed_by(sent + LIMIT) - sent
        return Effects(last_byte if last_byte <= LIMIT else math.inf, closed)

    def close(self) -> None:
        """Leave both servers."""
        self._streams.socket.close()
        self._stops.socket.close()

    def bare(self, spread: float) -> float:
        """Give the seconds that a bare route takes to answer."""
        wait_at_random(spread)
        sent = time.monotonic()
        self._stops.send("/bare")
        self._stops.until(b'"success"}\n')
        return time.monotonic() - sent


@contextmanager
def two_servers(
    app: str, others: int = 0, python: str = sys.executable, **environ: str
) -> Iterator[list[Server]]:
    """Run a server that streams and one that is sent the stops.

    It is one and the same where tasks are known in its memory alone.

    :param others: other streams that both together are busy with.
    :param python: what runs them.
    """
    is_alone = environ.get("FLASK_CHATSTOP_BACKEND") == "memory://"
    options = ["-k", "gthread", "--threads", str(16 + others), "--keep-alive", "60"]
    with ExitStack() as stack:
        servers = []
        for _ in range(1 if is_alone else 2):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            server = gunicorn(app, folder, *options, python=python, **environ)
            servers.append(stack.enter_context(server))
        if others:
            stack.enter_context(_busy([server.url for server in servers], others))
        yield [servers[0], servers[-1]]


@contextmanager
def _busy(urls: list[str], number: int) -> Iterator[None]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_read, args=(urls, number, theirs), daemon=True
    )
    process.start()
    try:
        ours.recv()
        yield
    finally:
        process.kill()
        process.join()


def _read(urls: list[str], number: int, pipe: Pipe) -> None:
    """Read so many streams, at 20 chunks a second each, until we are killed."""
    selector = selectors.DefaultSelector()
    for each in range(number):
        connection = Connection(urls[each % len(urls)])
        connection.send("/v1/chat-messages", pause=0.05)
        connection.until(b'"answer":"piece"')
        selector.register(connection.socket, selectors.EVENT_READ)
    pipe.send("they stream")
    while True:
        for key, _ in selector.select():
            key.fileobj.recv(65536)  # type: ignore[union-attr]

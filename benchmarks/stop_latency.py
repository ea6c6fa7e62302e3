"""From the stop request to the stream's last byte, through another worker.

Two gunicorn servers share a backend: one streams from a model that has gone silent, the
other is sent the stops. The floor, measured in the same run and in turns: the answer of
a bare Flask route of the second server, plus one raw hop of the backend's own bus. Run
it with ``python -m benchmarks.stop_latency [URL ...] [--others 200]``.
"""

import argparse
import multiprocessing
import selectors
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.hops import raw_hops
from tests.gunicorn_server import AUTH, Server, gunicorn

ROUNDS = 200
BODY = b'{"user": "alice"}'


class Connection:
    """A kept connection, that knows no more of HTTP than it has to."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._host = address.netloc
        self.socket = socket.create_connection((address.hostname, address.port), 30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""

    def send(self, path: str, body: bytes = BODY) -> None:
        """Send a request."""
        self.socket.sendall(
            (
                f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\n"
                f"Authorization: {AUTH['Authorization']}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            ).encode()
            + body
        )

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

    def __init__(self, streaming: Server, stopping: Server) -> None:
        self._streams = Connection(streaming.url)
        self._stops = Connection(stopping.url)

    def stop(self) -> float:
        """Give the seconds from the stop request to the stream's last byte."""
        self._streams.send("/v1/chat-messages")
        begun = self._streams.until(b'"answer":"piece"}\n\n\r\n')
        task_id = begun.partition(b'"task_id":"')[2].partition(b'"')[0].decode()
        sent = time.perf_counter()
        self._stops.send(f"/v1/chat-messages/{task_id}/stop")
        rest = self._streams.until(b"\r\n0\r\n\r\n")
        took = time.perf_counter() - sent
        assert b'"end_reason":"stopped"' in rest, rest
        assert b"Chatstop-Outcome: stop" in self._stops.until(b'"success"}')
        return took

    def round(self) -> tuple[float, float]:
        """Measure both, one after the other."""
        return self.stop(), self.bare()

    def bare(self) -> float:
        """Give the seconds that a bare route takes to answer."""
        sent = time.perf_counter()
        self._stops.send("/bare")
        self._stops.until(b'"success"}\n')
        return time.perf_counter() - sent


def read_others(url: str, number: int) -> None:
    """Read so many other streams, at 20 chunks a second each, until we are killed."""
    selector = selectors.DefaultSelector()
    for _ in range(number):
        connection = Connection(url)
        connection.send("/v1/chat-messages", b'{"user": "other", "pause": 0.05}')
        selector.register(connection.socket, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            key.fileobj.recv(65536)  # type: ignore[union-attr]


@contextmanager
def others(server: Server, number: int) -> Iterator[None]:
    """Keep other streams busy, read by a process of their own."""
    process = multiprocessing.get_context("spawn").Process(
        target=read_others, args=(server.url, number), daemon=True
    )
    process.start()
    yield
    process.kill()
    process.join()


def measure(url: str, number_of_others: int) -> None:
    """Measure one backend, and print a line."""
    options = ["-k", "gthread", "--threads", str(16 + number_of_others)]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = url.replace("FOLDER", str(folder))
        servers = []
        for name in ("streaming", "stopping"):
            (folder / name).mkdir()
            running = gunicorn(
                "benchmarks.latency_app:create_app()",
                folder / name,
                *options,
                FLASK_CHATSTOP_BACKEND=url,
            )
            servers.append(stack.enter_context(running))
        for server in servers:
            stack.enter_context(others(server, number_of_others // 2))
        client = Client(*servers)
        for _ in range(20):
            client.stop(), client.bare()
        stops, bares = zip(*(client.round() for _ in range(ROUNDS)), strict=True)
        hops = raw_hops(url, ROUNDS)
    report(url.partition(":")[0], number_of_others, stops, bares, hops)


def report(
    name: str,
    number_of_others: int,
    stops: tuple[float, ...],
    bares: tuple[float, ...],
    hops: list[float],
) -> None:
    """Print what was measured, in milliseconds and as ratios."""
    stop, bare, hop = (
        1000 * statistics.median(times) for times in (stops, bares, hops)
    )
    p99 = 1000 * sorted(stops)[int(0.99 * len(stops))]
    print(
        f"{name}, {number_of_others} other streams: stop to last byte {stop:.2f} ms"
        f" (p99 {p99:.2f} ms); bare answer {bare:.2f} ms + hop {hop:.2f} ms;"
        f" ratio {stop / (bare + hop):.2f}, above the bare answer {stop - bare:.2f} ms",
        flush=True,
    )


def main() -> None:
    """Measure every backend that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "urls",
        nargs="*",
        default=[
            "sqlite:///FOLDER/chatstop.db",
            "postgresql+psycopg://postgres@127.0.0.1/test",
            "mysql+pymysql://root@127.0.0.1/test",
            "redis://127.0.0.1:6379/0",
        ],
    )
    parser.add_argument("--others", type=int, default=0, help="other streams")
    arguments = parser.parse_args()
    for url in arguments.urls:
        measure(url, arguments.others)


if __name__ == "__main__":
    main()

"""Clients that come back to answers of two servers, and note when they get what."""

import itertools
import re
import selectors
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmarks.support.stops import Connection

ASK = "/v1/chat-messages"
_NUMBER = re.compile(rb'"answer":" (\d+)"')
_END = b"\r\n0\r\n\r\n"
#: Seconds that one answer may take.
_LIMIT = 120.0


class Reading:
    """What a client has got of one answer, and when."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.received = bytearray()
        #: By number, the moment at which it came.
        self.moments: dict[int, float] = {}
        #: The moment of the last byte.
        self.over: float | None = None
        self._searched = 0

    def receive(self) -> None:
        """Note what has come."""
        data = self.connection.socket.recv(1 << 20)
        moment = time.monotonic()
        assert data, "the server closed the connection"
        self.received += data
        for found in _NUMBER.finditer(self.received, self._searched):
            self.moments[int(found[1])] = moment
            self._searched = found.end()
        if self.received.endswith(_END):
            self.over = moment

    @property
    def body(self) -> bytes:
        """The events that it has got."""
        rest = bytes(self.received).partition(b"\r\n\r\n")[2]
        parts = []
        while size := int((line := rest.partition(b"\r\n"))[0], 16):
            parts.append(line[2][:size])
            rest = line[2][size + 2 :]
        return b"".join(parts)


def ask(streams: Connection, count: int, pace: float, **fields: object) -> Reading:
    """Ask for an answer, and read up to its first event."""
    streams.send(ASK, count=count, pace=pace, **fields)
    reading = Reading(streams)
    while b'"task_id":"' not in reading.received:
        reading.receive()
    return reading


def task_id_of(reading: Reading) -> str:
    """Return the id of the task that makes the answer."""
    text = bytes(reading.received).partition(b'"task_id":"')[2]
    return text.partition(b'"')[0].decode()


def read_all(readings: Sequence[Reading]) -> None:
    """Read all of them to their ends, in one thread."""
    with selectors.DefaultSelector() as selector:
        for reading in readings:
            selector.register(reading.connection.socket, selectors.EVENT_READ, reading)
        deadline = time.monotonic() + _LIMIT
        left = sum(reading.over is None for reading in readings)
        while left:
            assert time.monotonic() < deadline, f"{left} answers did not end"
            for key, _ in selector.select(1.0):
                key.data.receive()
                left -= key.data.over is not None


def lags(first: Reading, follower: Reading) -> list[float]:
    """Return by how many seconds each number came later to a follower."""
    assert first.moments.keys() == follower.moments.keys()
    return [follower.moments[number] - at for number, at in first.moments.items()]


@contextmanager
def polling(url: str, task_id: str, pause: float) -> Iterator[dict[int, float]]:
    """Ask for the text so far again and again, as a page without a log does.

    It gives by number the moment at which it was seen, complete after the block.
    """
    moments: dict[int, float] = {}
    closing = threading.Event()

    def poll() -> None:
        connection = Connection(url)
        is_last = False
        while not is_last:
            is_last = closing.is_set()
            time.sleep(pause)
            connection.send("/conversation", task=task_id)
            text = connection.until(b'"}\n').rpartition(b'"answer":')[2]
            moment = time.monotonic()
            for number in itertools.takewhile(
                lambda number: number not in moments,
                map(int, reversed(text.strip(b'"}\n').split())),
            ):
                moments[number] = moment
        connection.socket.close()

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield moments
    finally:
        closing.set()
        thread.join()

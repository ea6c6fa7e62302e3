"""The clients and the model of ``traffic``, each in a process of its own."""

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from urllib.parse import urlsplit

from tests.support.servers.gunicorn import AUTH

#: What the model says, and the seconds between two of its pieces.
PIECES, PAUSE = 12, 0.1
#: Seconds that a client waits for a stream or an answer.
PATIENCE = 30.0
_END = re.compile(rb'"event":"message_end".*?"end_reason":"(\w+)"')
_BODY = b'{"query":"hello","user":"alice"}'


@dataclass(slots=True)
class Stream:
    """What became of one stream, as its client saw it; moments are monotonic.

    :param fate: ``read``, ``stop`` or ``leave``.
    :param ends: the ``end_reason`` of each ``message_end``.
    :param is_whole: whether the response was ended, and not cut.
    :param stop: the status and ``Chatstop-Outcome`` of the stop's answer.
    """

    fate: str
    begun_at: float = 0.0
    status: int = 0
    task_id: str = ""
    ends: list[str] = field(default_factory=list)
    has_failed: bool = False
    is_whole: bool = False
    ended_at: float = 0.0
    stop_sent_at: float = 0.0
    stopped_at: float = 0.0
    stop: tuple[int, str] = (0, "")
    problem: str = ""


@dataclass(slots=True)
class Load:
    """Every stream of a load, and how many were open from second to second."""

    streams: list[Stream]
    is_open: list[tuple[float, int]]

    @property
    def rate(self) -> float:
        """The streams that were begun in a second."""
        moments = [stream.begun_at for stream in self.streams]
        return (len(moments) - 1) / (max(moments) - min(moments))


def drive(urls: Sequence[str], rate: float, seconds: float) -> Load:
    """Begin so many streams a second, spread over the servers, and read them all."""
    return asyncio.run(_drive(urls, rate, round(rate * seconds)))


def burst(urls: Sequence[str], number: int) -> None:
    """Begin so many streams at once at every server, and read them."""
    asyncio.run(_drive(urls, float("inf"), number * len(urls)))


async def _drive(urls: Sequence[str], rate: float, number: int) -> Load:
    load = Load([], [])
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(_watch(load))
        running = []
        for n in range(number):
            await asyncio.sleep(began + n / rate - time.monotonic())
            fate = random.choices(("read", "stop", "leave"), (87, 10, 3))[0]
            stream = Stream(fate if rate < float("inf") else "read")
            load.streams.append(stream)
            running.append(group.create_task(_run(stream, urls, n)))
        await asyncio.wait(running)
        watching.cancel()
    return load


async def _watch(load: Load) -> None:
    while True:
        is_open = sum(not stream.ended_at for stream in load.streams)
        load.is_open.append((time.monotonic(), is_open))
        await asyncio.sleep(1)


async def _run(stream: Stream, urls: Sequence[str], number: int) -> None:
    stream.begun_at = time.monotonic()
    try:
        async with asyncio.timeout(PATIENCE):
            await _read(stream, urls, number)
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        stream.problem = repr(error)
    stream.ended_at = stream.ended_at or time.monotonic()


async def _read(stream: Stream, urls: Sequence[str], number: int) -> None:
    moment = random.uniform(0, 1.1 * PIECES * PAUSE)
    stopping: asyncio.Task[None] | None = None
    async with _sent(urls[number % len(urls)], "/v1/chat-messages") as reader:
        stream.status = int((await reader.readline()).split()[1])
        if stream.status != 200:
            return
        first = await reader.readuntil(b"\n\n")
        stream.task_id = first.partition(b'"task_id":"')[2].partition(b'"')[0].decode()
        if stream.fate == "stop":
            stopping = asyncio.create_task(_stop(stream, random.choice(urls), moment))
        if stream.fate == "leave":
            await asyncio.sleep(0.8 * moment)
        else:
            await _read_to_the_end(stream, reader)
    # Not before the stream's connection is closed: gunicorn's gthread worker waits for
    # that in the one thread that takes requests.
    if stopping is not None:
        await stopping


async def _read_to_the_end(stream: Stream, reader: asyncio.StreamReader) -> None:
    text = b""
    while data := await reader.read(65536):
        text += data
        if not stream.ended_at and b'"end_reason"' in text:
            stream.ended_at = time.monotonic()
    stream.ends = [reason.decode() for reason in _END.findall(text)]
    stream.has_failed = b'"event":"error"' in text
    stream.is_whole = text.endswith(b"\r\n0\r\n\r\n")


async def _stop(stream: Stream, url: str, after: float) -> None:
    await asyncio.sleep(after)
    stream.stop_sent_at = time.monotonic()
    async with _sent(url, f"/v1/chat-messages/{stream.task_id}/stop") as reader:
        head = await reader.readuntil(b"\r\n\r\n")
    stream.stopped_at = time.monotonic()
    outcome = re.search(rb"Chatstop-Outcome: (\w+)", head)
    stream.stop = (int(head.split()[1]), outcome[1].decode() if outcome else "none")


@asynccontextmanager
async def _sent(url: str, path: str) -> AsyncIterator[asyncio.StreamReader]:
    """Send a request on a connection of its own, and leave when it is over."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write(
            f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n"
            f"Authorization: {AUTH['Authorization']}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(_BODY)}\r\n\r\n"
            "".encode()
            + _BODY
        )
        yield reader
    finally:
        writer.close()


def be_model(to_parent: Connection) -> None:
    """Serve answers of some pieces, and tell the parent where, until killed."""
    asyncio.run(_serve(to_parent))


async def _serve(to_parent: Connection) -> None:
    server = await asyncio.start_server(_answer, "127.0.0.1", 0, backlog=512)
    to_parent.send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    await server.serve_forever()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
            b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(PIECES):
            writer.write(b"5\r\nword \r\n")
            await writer.drain()
            await asyncio.sleep(PAUSE)
        writer.write(b"0\r\n\r\n")
    except (OSError, asyncio.IncompleteReadError):
        pass  # hung up on
    finally:
        writer.close()

"""What async sources cost: a stop, a chunk on its way from the loop, and memory."""

import asyncio
import itertools
import queue
import statistics
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.apps.async_sources import async_client, async_pieces
from benchmarks.apps.route import make_app, start
from benchmarks.rivals.async_server import bare_server
from benchmarks.rows.chunk import PACE as CHUNK_PACE
from benchmarks.rows.chunk import hop
from benchmarks.support.processes import Holding, children
from benchmarks.support.provider import PACE, Provider, run_provider
from benchmarks.support.report import Figure, Row, at_most
from benchmarks.support.stops import (
    LIMIT,
    Connection,
    describe,
    median,
    wait_at_random,
)
from flask_chatstop.generation.loop import source_loop
from flask_chatstop.generation.stream import ChunkStream
from tests.support.provider import provider as openai_provider
from tests.support.servers.gunicorn import Server, gunicorn

HOW = f"""
**Stop**: a source reads a silent answer with a shared `AsyncOpenAI`; measured from the
sending of the stop request, at a random moment, to the close of the connection as the
provider's own process sees it. The floor, in the same rounds: a bare server on
`asyncio.start_server` in a process of its own, in which the same source is read by an
asyncio task, and the request for a stop does nothing but `task.cancel()`. Ours is
gunicorn (gthread), with tasks in memory. Three lines take that apart: what a bare Flask
route takes to answer under the same gunicorn, beside a stop at the bare server that
finds nothing to cancel; the floor with the difference of these two added; and, with no
request at all, `task.stop()` beside `loop.call_soon_threadsafe(task.cancel)`, each
called in a thread of one process, to the close.
**Chunk**: an async source gives a chunk every {1000 * CHUNK_PACE:g} ms; the time from
its `yield`, on the loop, to the reader in its thread, beside the same through a
`queue.SimpleQueue` from a bare loop.
**Memory and threads**: the growth of one gunicorn worker for so many silent streams, by
their number, async ones beside sync ones, each in a fresh server: of a source that asks
a provider with openai's client, which all share, and of one that only waits.
"""
ROUNDS = 200
CHUNKS = 1_000
STREAMS = 1_000
#: Of the bare server's, what a stop may take.
STOP_LIMIT = 1.5
#: Microseconds that a chunk may take to its reader.
HOP_LIMIT = 100.0
STREAM = "/v1/chat-messages"
PIECE = b'piece"}'
WORKERS = {
    "gthread": ("-k", "gthread", "--threads", str(STREAMS + 150)),
    "gevent": ("-k", "gevent"),
}


@contextmanager
def server(*options: str) -> Iterator[Server]:
    """Run the app."""
    app = "benchmarks.apps.async_sources:create_app()"
    options = (*options, "--worker-connections", "2000", "--keep-alive", "60")
    with (
        tempfile.TemporaryDirectory() as folder,
        gunicorn(
            app, Path(folder), *options, FLASK_CHATSTOP_BACKEND="memory://"
        ) as running,
    ):
        yield running


class Stops:
    """Stops of one server, each on an answer of its own."""

    def __init__(self, url: str, provider: Provider) -> None:
        self._streams, self._stops = Connection(url), Connection(url)
        self._provider = provider

    def stop(self) -> float:
        """Give the seconds from a stop to the provider's close."""
        call = self._provider.call("silent")
        self._streams.send(STREAM, provider=call.url, kind="async")
        begun = self._streams.until(b'"answer":"piece"')
        task_id = begun.partition(b'"task_id":"')[2].partition(b'"')[0].decode()
        return self._time(f"{STREAM}/{task_id}/stop", call)

    def cancel(self) -> float:
        """Do the same at the bare server."""
        call = self._provider.call("silent")
        self._streams.send(STREAM, provider=call.url)
        self._streams.until(b'"answer": "piece"')
        return self._time("/stop", call)

    def _time(self, path: str, call: Any) -> float:
        wait_at_random(PACE)
        sent = time.monotonic()
        self._stops.send(path)
        self._streams.until(b"\r\n0\r\n\r\n")
        self._stops.until(b'"success"}')
        closed: float = call.closed_by(sent + LIMIT) - sent
        return closed

    def answer(self, path: str) -> float:
        """Give the seconds that an answer to a request takes that does nothing."""
        wait_at_random(PACE)
        sent = time.monotonic()
        self._stops.send(path)
        self._stops.until(b'"success"}')
        return time.monotonic() - sent

    def close(self) -> None:
        """Leave the server."""
        self._streams.socket.close()
        self._stops.socket.close()


def stops(rounds: int, provider: Provider) -> Iterator[Figure]:
    """Measure stops and bare answers of both servers, in turns."""
    taken: dict[str, list[float]] = {}
    with (
        server("-k", "gthread", "--threads", "16") as ours,
        bare_server() as bare,
        ExitStack() as stack,
    ):
        here, there = Stops(ours.url, provider), Stops(bare, provider)
        stack.callback(here.close)
        stack.callback(there.close)
        ways: dict[str, Callable[[], float]] = {
            "ours": here.stop,
            "floor": there.cancel,
            "our answer": partial(here.answer, "/bare"),
            "its answer": partial(there.answer, "/stop"),
        }
        for number in range(-max(2, rounds // 10), rounds):
            for name, way in ways.items():
                seconds = way()
                if number >= 0:
                    taken.setdefault(name, []).append(seconds)
    took, floor, our_answer, its_answer = (median(taken[name]) for name in ways)
    ratio = took / floor
    yield Figure(
        what="AsyncOpenAI, silent: stop to provider's close",
        ours=describe(taken["ours"]),
        beside=f"task.cancel() in a bare asyncio server {describe(taken['floor'])}",
        ratio=ratio,
        **at_most(ratio, STOP_LIMIT),
    )
    yield Figure(
        what="of that: the answer to a request that does nothing",
        ours=describe(taken["our answer"]),
        beside=f"of the bare server {describe(taken['its answer'])}",
        ratio=our_answer / its_answer,
    )
    same_server = our_answer + floor - its_answer
    yield Figure(
        what="beside a cancellation behind the same Flask and gunicorn",
        ours=f"{took:.2f} ms",
        beside=f"floor {floor:.2f} + answers {our_answer - its_answer:.2f} ms",
        ratio=took / same_server,
    )


def in_process(rounds: int, provider: Provider) -> Figure:
    """Measure a stop and a cancellation without a request."""
    app, chatstop = make_app()
    loop, client = source_loop().loop, async_client()
    ours, floor = [], []

    async def read(url: str, begun: threading.Event) -> None:
        async for _ in async_pieces(client, url):
            begun.set()

    for number in range(-max(2, rounds // 10), rounds):
        call = provider.call("silent")
        task = start(app, chatstop)
        stream = task.stream(async_pieces(client, call.url))
        next(stream)
        reading = threading.Thread(target=read_as_a_server, args=(stream,))
        reading.start()
        wait_at_random(PACE)
        sent = time.monotonic()
        task.stop()
        closed = call.closed_by(sent + LIMIT) - sent
        reading.join()

        call = provider.call("silent")
        begun = threading.Event()
        future = asyncio.run_coroutine_threadsafe(_task(read(call.url, begun)), loop)
        bare = future.result()
        begun.wait()
        wait_at_random(PACE)
        sent = time.monotonic()
        loop.call_soon_threadsafe(bare.cancel)
        cancelled = call.closed_by(sent + LIMIT) - sent
        if number >= 0:
            ours.append(closed)
            floor.append(cancelled)
    return Figure(
        what="without a request: task.stop() to provider's close",
        ours=describe(ours),
        beside=f"task.cancel() {describe(floor)}",
        ratio=median(ours) / median(floor),
    )


def read_as_a_server(stream: ChunkStream[str]) -> None:
    """Read to the end, and close at once."""
    for _ in stream:
        pass
    stream.close()


async def _task(work: Any) -> "asyncio.Task[None]":
    return asyncio.create_task(work)


async def paced(number: int) -> AsyncIterator[float]:
    """Give the time, now and then."""
    for _ in range(number):
        await asyncio.sleep(CHUNK_PACE)
        yield time.perf_counter()


def through_simple_queue(chunks: AsyncIterator[float]) -> Iterator[float]:
    """Read an async source on a loop in a thread, with nothing of ours."""
    items: queue.SimpleQueue[float | None] = queue.SimpleQueue()

    async def read() -> None:
        async for chunk in chunks:
            items.put(chunk)
        items.put(None)

    threading.Thread(target=lambda: asyncio.run(read()), daemon=True).start()
    while (item := items.get()) is not None:
        yield item


def hops(number: int) -> Figure:
    """Measure the way of a chunk from the loop to its reader, in turns."""
    app, chatstop = make_app()
    ours, plain = [], []
    for _ in range(3):
        ours.append(hop(start(app, chatstop).stream(paced(number))))
        plain.append(hop(through_simple_queue(paced(number))))
    here, there = statistics.median(ours), statistics.median(plain)
    return Figure(
        what="a chunk from the loop to its reader",
        ours=f"{here:.0f} µs",
        beside=f"SimpleQueue {there:.0f} µs",
        ratio=here / there,
        **at_most(here, HOP_LIMIT, " µs"),
    )


@dataclass(frozen=True, slots=True)
class Grown:
    """What a worker holds more, by the number of its streams; memory in KiB."""

    memory: float
    threads: float


def grow(worker: str, number: int, **fields: str) -> Grown:
    """Open so many silent streams in a fresh server."""
    with server(*WORKERS[worker]) as running:
        streams: list[Connection] = []
        pid = 0
        before = Holding(0, 0, 0, 0.0)
        for upto in (number // 10, number + number // 10):
            while len(streams) < upto:
                streams.append(Connection(running.url))
                streams[-1].send(STREAM, **fields)
                streams[-1].until(PIECE)
            [pid] = children(running.process.pid)
            if upto < number:
                before = Holding.of(pid)
        after = Holding.of(pid)
        for stream in streams:
            stream.socket.close()
    return Grown(
        memory=1024 * (after.memory - before.memory) / number,
        threads=(after.threads - before.threads) / number,
    )


def growth(number: int, quick: bool) -> Iterator[tuple[str, str, Grown]]:
    """Give what silent streams hold, by what they are and by their kind.

    :param quick: leave out all but one sort, since each takes two servers.
    """
    models = (("openai's client", True), ("only waits", False))
    sorts = list(itertools.product(WORKERS, models))
    for worker, (words, model) in sorts[:1] if quick else sorts:
        for kind in ("async", "sync"):
            with openai_provider() as model_server:
                url = model_server.url.replace("localhost", "127.0.0.1")
                fields = {"provider": url} if model else {}
                grown = grow(worker, number, kind=kind, **fields)
            yield f"{worker}, {words}", kind, grown


def figures_of_growth(
    all_grown: dict[str, dict[str, Grown]], number: int
) -> Iterator[Figure]:
    """Compare async streams with sync ones."""
    for what, grown in all_grown.items():
        ours, sync = grown["async"], grown["sync"]
        yield Figure(
            what=f"{number:,} silent streams, {what}",
            ours=f"{ours.memory:.1f} KiB and {ours.threads:.2f} threads each",
            beside=f"sync {sync.memory:.1f} KiB and {sync.threads:.2f} threads",
            ratio=ours.memory / sync.memory,
        )


def measure(quick: bool = False) -> Row:
    """Measure all three."""
    rounds = 3 if quick else ROUNDS
    with run_provider() as provider:
        figures = [*stops(rounds, provider), in_process(rounds, provider)]
    figures.append(hops(100 if quick else CHUNKS))
    number = 50 if quick else STREAMS
    grown: dict[str, dict[str, Grown]] = {}
    for what, kind, holds in growth(number, quick):
        grown.setdefault(what, {})[kind] = holds
    figures += figures_of_growth(grown, number)

    def draw(axes: Any) -> None:
        places = range(len(grown))
        for kind, offset in (("async", -0.2), ("sync", 0.2)):
            values = [holds[kind].memory for holds in grown.values()]
            bars = axes.barh(
                [place + offset for place in places], values, height=0.4, label=kind
            )
            axes.bar_label(bars, fmt="%.0f KiB", padding=3)
        axes.set_yticks(places, list(grown))
        axes.set(xlabel="KiB a silent stream")
        axes.invert_yaxis()
        axes.legend()

    return Row(
        name="async_sources",
        title="What async sources cost",
        how=HOW,
        figures=figures,
        draw=draw,
    )

"""What 10 to 10,000 running tasks in one process cost a stop, the store, and memory."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.support.processes import Holding, children
from benchmarks.support.report import Figure, Row, at_most
from benchmarks.support.stops import Connection, median
from flask_chatstop.backends import RedisBackend
from flask_chatstop.testing import wait_until
from tests.support.provider import Provider
from tests.support.servers.gunicorn import Server, gunicorn
from tests.support.servers.redis import RedisServer

HOW = """
One gunicorn worker of the gevent kind holds so many streams of a source that has gone
silent, with the default configuration, and a Redis of its own. **Stop**: from the
request, sent to a second gunicorn, to the last byte of a stream begun among the others;
in turns with a stream that is alone in a third gunicorn, one stop right after the
other: between rests, as in `stop_latency`, each takes longer. **Commands**: what the
clients of Redis send in 20 seconds in which nothing happens (a third of the lease, so
with a renewal, four sweeps, and the doorbell's pings), without what scripts call inside
of Redis; the keys of a task have one of 16 hash tags, which 10 tasks do not all use.
**Memory**: the growth of the worker's PSS for 2,000
streams, beside 2,000 streams of a view without this package, each in a fresh server:
once of an app like the README's, which reads a provider with openai's client, for which
the goal is, and once with a source that only waits, so that nothing but the stream
itself is compared. A stream that a stop can end while its sync source is silent needs a
second greenlet: one line stands beside a bare one that has it too, and nothing but a
`queue.SimpleQueue` between the two. The same sources as async ones need none. They
stand beside the bare streams of the sync ones, and beside a bare one that an asyncio
task on the same loop reads into such a queue.
"""
SIZES = (10, 100, 1_000, 10_000)
STOPS = 200
WARM_UP = 20
IDLE = 20.0
STREAMS = 2_000
LIMIT = 1.5
STREAM = "/v1/chat-messages"
AHEAD = "/read-ahead"
ON_A_LOOP = "/on-a-loop"
PIECE = b'piece"}'


@dataclass(frozen=True, slots=True)
class Size:
    """What was measured with so many tasks: milliseconds, and commands a second.

    :param alone: what the stop of a task took that was alone in its process.
    """

    tasks: int
    stop: float
    alone: float
    commands: float


@contextmanager
def server(folder: Path, name: str, **environ: str) -> Iterator[Server]:
    """Run the app under gevent."""
    (folder / name).mkdir()
    options = ("-k", "gevent", "--worker-connections", "20000", "--keep-alive", "60")
    app = "benchmarks.apps.growth:create_app()"
    with gunicorn(app, folder / name, *options, **environ) as running:
        yield running


def open_streams(
    url: str, number: int, path: str = STREAM, **fields: str
) -> list[Connection]:
    """Begin so many streams, and read each up to its first piece."""
    streams = []
    for _ in range(number):
        streams.append(Connection(url))
        streams[-1].send(path, **fields)
        streams[-1].until(PIECE)
    return streams


def stop(streams: Connection, stops: Connection) -> float:
    """Give the seconds from a stop to the last byte of a stream that it ends."""
    streams.send(STREAM)
    begun = streams.until(PIECE)
    task_id = begun.partition(b'"task_id":"')[2].partition(b'"')[0].decode()
    sent = time.monotonic()
    stops.send(f"{STREAM}/{task_id}/stop")
    rest = streams.until(b"\r\n0\r\n\r\n")
    took = time.monotonic() - sent
    assert b'"end_reason":"stopped"' in rest, rest
    stops.until(b'"success"}')
    return took


def grow(sizes: tuple[int, ...], idle: float) -> list[Size]:
    """Measure stops and commands with more and more tasks in one process."""
    measured: list[Size] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = RedisServer(folder)
        stack.callback(redis.kill)
        backend = RedisBackend(redis.url)
        stack.callback(backend.close)
        crowded, empty, other = (
            stack.enter_context(server(folder, name, FLASK_CHATSTOP_BACKEND=redis.url))
            for name in ("crowded", "empty", "other")
        )
        among, alone, stops = (Connection(s.url) for s in (crowded, empty, other))
        streams: list[Connection] = []
        for size in sizes:
            streams += open_streams(crowded.url, size - len(streams))
            pairs = [
                (stop(among, stops), stop(alone, stops)) for _ in range(WARM_UP + STOPS)
            ][WARM_UP:]
            # The last ends are reported a moment later.
            wait_until(lambda size=size: len(backend.tasks()) == size, 60)  # type: ignore[misc]
            if not measured:
                time.sleep(idle)  # the first renewal loads a script
            before, began = redis.commands(), time.monotonic()
            time.sleep(idle)
            commands = (redis.commands() - before) / (time.monotonic() - began)
            here, there = (median(times) for times in zip(*pairs, strict=True))
            measured.append(Size(size, here, there, commands))
        for connection in (*streams, among, alone, stops):
            connection.socket.close()
    return measured


def memory(number: int, path: str, **fields: str) -> float:
    """Give the KiB of a stream in a fresh server, by so many."""
    provider = Provider()
    with ExitStack() as stack:
        stack.callback(provider.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = RedisServer(folder)
        stack.callback(redis.kill)
        environ = {
            "FLASK_CHATSTOP_BACKEND": redis.url,
            "FLASK_MODEL_URL": provider.url.replace("localhost", "127.0.0.1"),
        }
        running = stack.enter_context(server(folder, "streaming", **environ))
        streams = open_streams(running.url, 100, path, **fields)
        [worker] = children(running.process.pid)
        before = Holding.of(worker).memory
        streams += open_streams(running.url, number, path, **fields)
        grown = Holding.of(worker).memory - before
        for stream in streams:
            stream.socket.close()
    return 1024 * grown / number


def figures_of_growth(sizes: list[Size]) -> Iterator[Figure]:
    """Compare stops with those of a task alone, and commands with those of 100."""
    for size in sizes:
        yield Figure(
            what=f"{size.tasks:,} tasks: stop to last byte",
            ours=f"{size.stop:.2f} ms",
            beside=f"alone {size.alone:.2f} ms",
            ratio=size.stop / size.alone,
            **at_most(size.stop / size.alone, LIMIT),
        )
    base = sizes[1]
    for size in sizes:
        compared: dict[str, Any] = {}
        if size is not base and base.commands:  # none in a second that is only a try
            ratio = size.commands / base.commands
            compared = {
                "beside": f"with {base.tasks} {base.commands:.2f} a second",
                "ratio": ratio,
                **at_most(ratio, LIMIT),
            }
        yield Figure(
            what=f"{size.tasks:,} tasks: commands to an idle store",
            ours=f"{size.commands:.2f} a second",
            **compared,
        )


def figures_of_memory(number: int) -> Iterator[Figure]:
    """Compare the memory of a stream with that of others."""
    models, waits = {"model": "openai"}, "a source that only waits"
    ours, bare_app = (memory(number, path, **models) for path in (STREAM, "/bare"))
    beside = f"bare {bare_app:.1f} KiB"
    yield figure_of_memory("README's app", ours, beside, bare_app, LIMIT)
    ours, bare, ahead = (memory(number, path) for path in (STREAM, "/bare", AHEAD))
    yield figure_of_memory(waits, ours, f"bare {bare:.1f} KiB", bare)
    yield figure_of_memory(waits, ours, f"bare, read ahead {ahead:.1f} KiB", ahead)
    ours = memory(number, STREAM, kind="async", **models)
    what = "README's app, as an async source"
    yield figure_of_memory(what, ours, beside, bare_app, LIMIT)
    ours, loop = memory(number, STREAM, kind="async"), memory(number, ON_A_LOOP)
    waits = "an async source that only waits"
    yield figure_of_memory(waits, ours, f"bare {bare:.1f} KiB", bare, LIMIT)
    yield figure_of_memory(waits, ours, f"bare, on a loop {loop:.1f} KiB", loop)


def figure_of_memory(
    what: str, ours: float, text: str, other: float, limit: float | None = None
) -> Figure:
    """Give one of the lines."""
    return Figure(
        what=f"memory of a stream: {what}",
        ours=f"{ours:.1f} KiB",
        beside=text,
        ratio=ours / other,
        **(at_most(ours / other, limit) if limit else {}),
    )


def measure(quick: bool = False) -> Row:
    """Measure all three."""
    sizes = grow(SIZES[:2] if quick else SIZES, 1.0 if quick else IDLE)

    def draw(axes: Any) -> None:
        numbers = [size.tasks for size in sizes]
        axes.plot(numbers, [size.stop for size in sizes], "o-", label="stop")
        alone = [size.alone for size in sizes]
        axes.plot(numbers, alone, "x:", color="grey", label="stop of a task alone")
        axes.set(xscale="log", xlabel="running tasks in one process")
        axes.set(ylabel="ms from a stop to the last byte")
        right = axes.twinx()
        commands = [size.commands for size in sizes]
        right.plot(numbers, commands, "s--", color="C1", label="commands, idle")
        right.set(ylabel="commands to the store a second")
        for each, highest in ((axes, max(alone)), (right, max(commands))):
            each.set_ylim(0, 2 * highest)
        lines = [*axes.get_lines(), *right.get_lines()]
        axes.legend(lines, [line.get_label() for line in lines])

    figures = [
        *figures_of_growth(sizes),
        *figures_of_memory(50 if quick else STREAMS),
    ]
    return Row(
        name="growth",
        title="What more tasks in one process cost",
        how=HOW,
        figures=figures,
        draw=draw,
    )

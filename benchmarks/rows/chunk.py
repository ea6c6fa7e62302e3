"""What a chunk costs on its way: CPU time beside a bare generator, and the hop."""

import queue
import statistics
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

import redis

from benchmarks.apps.route import make_app, start
from benchmarks.rivals.polled_flag import Answer
from benchmarks.support.report import Figure, Row, at_most
from benchmarks.support.stores import store
from flask_chatstop import GenerationTask, chat_response

ROUNDS = 15
CHUNKS = 20_000
PACED = 1_000
PACE = 0.002
#: Microseconds of CPU that a chunk may cost, and that its hop may take.
CPU_LIMIT, HOP_LIMIT = 10.0, 60.0
HOW = f"""
**CPU**: a source gives {CHUNKS:,} chunks as fast as it can, and is read to its end bare
and in each other way, in turns; the difference of the process's CPU time, a chunk.
`chat_response` and the polled flag make an event of each chunk, `task.stream` does not.
The polled flag is that of `stop_latency`: a `queue.Queue` with waits of a second, and
two looks at a flag in Redis for each chunk; cached, a look counts for a second.
**Hop**: a source gives a chunk every {1000 * PACE:g} ms, as a fast model does; the time
from its `yield` to the reader, beside the time from a thread to another one through a
`queue.SimpleQueue`.
"""


def source() -> Generator[str, None, None]:
    """Give chunks as a generator does, as fast as it can."""
    for _ in range(CHUNKS):
        yield "chunk"


def paced(number: int) -> Iterator[float]:
    """Give the time, now and then."""
    for _ in range(number):
        time.sleep(PACE)
        yield time.perf_counter()


def through_simple_queue(chunks: Iterable[float]) -> Iterator[float]:
    """Read a source in a thread, with nothing of ours."""
    items: queue.SimpleQueue[float | None] = queue.SimpleQueue()

    def read() -> None:
        for chunk in chunks:
            items.put(chunk)
        items.put(None)

    threading.Thread(target=read, daemon=True).start()
    while (item := items.get()) is not None:
        yield item


def polled(flags: "redis.Redis", cache: float) -> Iterator[bytes]:
    """Read the source as the polled flag does, from the first item on."""
    answer = Answer("task", flags, cache)
    threading.Thread(target=answer.read, args=(source(),), daemon=True).start()
    yield from answer.events()


def cpu(chunks: Iterable[object]) -> float:
    """Read to the end, and give the microseconds of CPU a chunk, of all threads."""
    begun = time.process_time()
    for _ in chunks:
        pass
    return 1e6 * (time.process_time() - begun) / CHUNKS


def hop(chunks: Iterable[float]) -> float:
    """Give the median of the microseconds from a source to its reader."""
    return 1e6 * statistics.median(time.perf_counter() - sent for sent in chunks)


def ways(
    task: Callable[[], GenerationTask], flags: "redis.Redis"
) -> dict[str, Callable[[], Iterable[object]]]:
    """Give the ways to read the source."""
    return {
        "bare": source,
        "task.stream": lambda: task().stream(source()),
        "chat_response": lambda: chat_response(task(), source()).response,
        "polled flag": lambda: polled(flags, cache=0.0),
        "polled flag, cached": lambda: polled(flags, cache=1.0),
    }


def measure(quick: bool = False) -> Row:
    """Measure the CPU of each way, and the hop."""
    app, chatstop = make_app()
    with store("Redis") as url, redis.Redis.from_url(url) as flags:
        costs: dict[str, list[float]] = {}
        for _ in range(1 if quick else ROUNDS):
            for name, way in ways(lambda: start(app, chatstop), flags).items():
                costs.setdefault(name, []).append(cpu(way()))
    bare = costs.pop("bare")
    added = {name: _above(times, bare) for name, times in costs.items()}
    figures = [
        Figure(
            what=f"{name}: CPU above a bare generator",
            ours=f"{above:.2f} µs a chunk",
            beside=f"bare {statistics.median(bare):.2f} µs",
            **(
                at_most(above, CPU_LIMIT, " µs")
                if not name.startswith("polled")
                else {}
            ),
        )
        for name, above in added.items()
    ]
    number = 100 if quick else PACED
    ours = hop(start(app, chatstop).stream(paced(number)))
    plain = hop(through_simple_queue(paced(number)))
    figures.append(
        Figure(
            what="hop of a paced source",
            ours=f"{ours:.0f} µs",
            beside=f"SimpleQueue {plain:.0f} µs",
            ratio=ours / plain,
            **at_most(ours, HOP_LIMIT, " µs"),
        )
    )

    def draw(axes: Any) -> None:
        bars = axes.barh(list(added), list(added.values()))
        axes.bar_label(bars, fmt="%.1f µs", padding=3)
        axes.set(xlabel="µs of CPU a chunk, above a bare generator")
        axes.invert_yaxis()

    return Row(
        name="chunk",
        title="What a chunk costs",
        how=HOW,
        figures=figures,
        draw=draw,
    )


def _above(times: list[float], bare: list[float]) -> float:
    return statistics.median(
        one - other for one, other in zip(times, bare, strict=True)
    )

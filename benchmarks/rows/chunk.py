"""What a chunk costs on its way: CPU time beside a bare generator, and the hop."""

import queue
import statistics
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from typing import Any

import redis

from benchmarks.apps.route import make_app, start
from benchmarks.rivals.polled_flag import Answer
from benchmarks.support.report import Figure, Row, at_most
from benchmarks.support.stores import store
from flask_chatstop import GenerationTask, chat_response
from flask_chatstop.events.records import END, log_id_of, unpack
from flask_chatstop.state import AppState

ROUNDS = 15
CHUNKS = 20_000
PACED = 1_000
PACE = 0.002
#: Microseconds of CPU that a chunk may cost, and that its hop may take.
CPU_LIMIT, HOP_LIMIT = 10.0, 60.0
#: Chunks of an answer that is kept, and the seconds of a rest after them: no log takes
#: a million chunks a second.
AT_ONCE, REST = 1_000, 0.05
#: The stores that answers are kept in.
LOGS = ("memory", "Redis", "SQLite")
HOW = f"""
**CPU**: a source gives {CHUNKS:,} chunks as fast as it can, and is read to its end bare
and in each other way, in turns; the difference of the process's CPU time, a chunk.
`chat_response` and the polled flag make an event of each chunk, `task.stream` does not.
The polled flag is that of `stop_latency`: a `queue.Queue` with waits of a second, and
two looks at a flag in Redis for each chunk; cached, a look counts for a second. With
a log, `CHATSTOP_EVENTS` keeps the answer too: counted is all that the process does
until the log has the end, its writer's thread included, but not the server of Redis.
The source rests for {1000 * REST:g} ms after {AT_ONCE:,} chunks. What is kept is
counted afterwards: nothing is missing.
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


class Logged:
    """An app whose answers are kept.

    :param url: of the log.
    """

    def __init__(self, url: str) -> None:
        self._app, self._chatstop = make_app(events=url)
        writer = AppState.of(self._app).event_writer
        assert writer is not None
        self._writer = writer

    def read(self) -> Iterator[object]:
        """Give the answer, and wait until the log has all of it."""
        task = start(self._app, self._chatstop)
        self._log_id = log_id_of(task.id, task.record.owner)
        frames = enumerate(chat_response(task, source()).response, 1)
        for number, frame in frames:
            yield frame
            if number % AT_ONCE == 0:
                time.sleep(REST)
        assert self._writer.flush(60)

    def count(self) -> int:
        """Give how many frames the log has of the last answer."""
        count = position = 0
        while position < END:
            page = self._writer.events.read(self._log_id, position)
            assert page is not None and page.records
            count += sum(len(unpack(record.data).frames) for record in page.records)
            position = page.records[-1].number
        return count

    def close(self) -> None:
        """Leave the log."""
        self._writer.close()


def hop(chunks: Iterable[float]) -> float:
    """Give the median of the microseconds from a source to its reader."""
    return 1e6 * statistics.median(time.perf_counter() - sent for sent in chunks)


def ways(
    task: Callable[[], GenerationTask],
    flags: "redis.Redis",
    logs: Mapping[str, Logged],
) -> dict[str, Callable[[], Iterable[object]]]:
    """Give the ways to read the source."""
    return {
        "bare": source,
        "task.stream": lambda: task().stream(source()),
        "chat_response": lambda: chat_response(task(), source()).response,
        **{f"chat_response, log in {name}": log.read for name, log in logs.items()},
        "polled flag": lambda: polled(flags, cache=0.0),
        "polled flag, cached": lambda: polled(flags, cache=1.0),
    }


def measure(quick: bool = False) -> Row:
    """Measure the CPU of each way, and the hop."""
    app, chatstop = make_app()
    costs: dict[str, list[float]] = {}
    with ExitStack() as stack:
        urls = {name: stack.enter_context(store(name)) for name in LOGS}
        logs = {name: stack.enter_context(closing(Logged(urls[name]))) for name in LOGS}
        flags = stack.enter_context(redis.Redis.from_url(urls["Redis"]))
        for _ in range(1 if quick else ROUNDS):
            for name, way in ways(lambda: start(app, chatstop), flags, logs).items():
                costs.setdefault(name, []).append(cpu(way()))
            # The first event and the last one are the builder's.
            assert [log.count() for log in logs.values()] == [CHUNKS + 2] * len(logs)
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

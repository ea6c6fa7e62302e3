"""What ``task.stream`` adds to a source: CPU a chunk, and the hop to the reader.

CPU: a source that gives chunks as fast as it can, read bare and through the stream,
in turns; the difference of process CPU time, a chunk. Hop: a source that gives a
chunk every 2 ms, as a fast model does; the time from its ``yield`` to the reader.
Run it with ``python -m benchmarks.stream``.
"""

import statistics
import time
from collections.abc import Iterable, Iterator

from benchmarks.route import make_app
from flask_chatstop import GenerationTask

ROUNDS = 15
CHUNKS = 20_000
PACED = 1_000
PACE = 0.002


def tasks() -> Iterator[GenerationTask]:
    """Begin one task after another."""
    app, chatstop = make_app()

    @chatstop.login_required
    def start() -> GenerationTask:
        return chatstop.start(user="alice")

    while True:
        with app.test_request_context(headers={"Authorization": "Bearer demo-key"}):
            task = start()
        yield task


def cpu(chunks: Iterable[str]) -> float:
    """Read to the end, and give the seconds of CPU a chunk that all threads took."""
    begun = time.process_time()
    for _ in chunks:
        pass
    return (time.process_time() - begun) / CHUNKS


def source() -> Iterator[str]:
    """Give chunks as a generator does, as fast as it can."""
    for _ in range(CHUNKS):
        yield "chunk"


def paced() -> Iterator[float]:
    """Give the time, now and then."""
    for _ in range(PACED):
        time.sleep(PACE)
        yield time.perf_counter()


def main() -> None:
    """Measure, and print two lines."""
    task = tasks()
    costs = [(cpu(source()), cpu(next(task).stream(source()))) for _ in range(ROUNDS)]
    added = statistics.median(streamed - bare for bare, streamed in costs)
    bare = statistics.median(bare for bare, _ in costs)
    print(
        f"CPU a chunk: bare {1e6 * bare:.2f} µs, task.stream adds {1e6 * added:.2f} µs"
    )
    hops = sorted(time.perf_counter() - sent for sent in next(task).stream(paced()))
    print(
        f"hop of a paced source: median {1e6 * statistics.median(hops):.0f} µs,"
        f" p99 {1e6 * hops[int(0.99 * len(hops))]:.0f} µs"
    )


if __name__ == "__main__":
    main()

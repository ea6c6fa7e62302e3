"""From a stop request to what it does, with each store, and as others do it.

For a store of your own: ``python -m benchmarks.rows.stop_latency URL [--others 200]``.
For the others alone: ``python -m benchmarks.rivals.other_stops [NAME ...]``.
"""

import argparse
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.rivals.other_stops import ROUNDS as ROUNDS_OF_RQ
from benchmarks.rivals.other_stops import SLOW_ROUNDS, Theirs, other_stops
from benchmarks.support.our_stops import Ours, our_stops
from benchmarks.support.provider import MODELS, PACE, Provider, run_provider
from benchmarks.support.report import Figure, Row, at_most
from benchmarks.support.stop_latency_picture import draw
from benchmarks.support.stops import (
    LIMIT,
    Stops,
    describe,
    median,
    p99,
    times,
    times_longer,
)
from benchmarks.support.stores import STORES, store
from flask_chatstop import BackendError, backend_from_url

HOW = f"""
Two gunicorn servers share a store. One passes on, over httpx, the answer of a model
provider on loopback: a process of its own that says a piece every {1000 * PACE:g} ms or
is silent after the first, and that notes when it sees its connection closed. The other
is sent the stop, at a random moment. Measured from the sending of the stop request: the
last byte of the stream at the client, and the close at the provider. The floor, in the
same rounds and after random pauses too: the answer of a bare Flask route of the second
server, plus one raw hop of the store's own doorbell between two bare processes: a
message of Redis, a datagram, a sleeping query that is cancelled or killed. The other
streams make 20 pieces a second each, inside of the two servers. With tasks in memory
one server does both, without a hop.

Beside ours, on the same Redis:

- **polled flag**: the stop sets a flag in Redis; a stream waits a second at most for an
  item of its queue, and looks at the flag after every item; the thread that fills the
  queue leaves the model when it has published a chunk and finds the flag. So Dify does
  it, with a GET for each look, and **cached** as it does newly: a look counts for a
  second. Under the same gunicorn settings; written for this benchmark, and not Dify's
  code. {SLOW_ROUNDS} rounds, at once.
- **fastapi-resumable-stream**: `stop_conversation_stream()` in the FastAPI app of its
  README, with its defaults and httpx's async client, under two uvicorns. The stop sets
  a flag in Redis. The task that reads the model looks at it when it has a chunk. The
  stream reads the chunks from Redis: it waits 50 ms for a message, and then sleeps for
  50 ms. {SLOW_ROUNDS} rounds, up to a second after the first chunk; at once where the
  model is silent.
- **dramatiq-abort**: `abort()` of an actor that reads the answer with httpx, more than
  a second after it has begun, since the watcher may not know it before. A job has no
  client: in place of the last byte stands the moment it leaves its loop, and no request
  precedes the call. {SLOW_ROUNDS} rounds, at once where the model is silent.
- **RQ**: `send_stop_job_command()` for a job that reads the answer with httpx; no
  request precedes it either. It kills the job's process, whose `finally` would save the
  text so far. In place of the last byte stands the `on_stopped` callback, in the
  worker. {ROUNDS_OF_RQ} rounds; what was left of the jobs, over all rounds: %(left)s.

What has not come {LIMIT:g} s after the stop counts as never, and the provider hangs up.
"""
ROUNDS = dict.fromkeys(("memory", "SQLite", "PostgreSQL", "MariaDB", "Redis"), 400)
OTHERS = 200
#: Of the floor, what a stop may take with a doorbell.
GOAL = 1.5
#: Of the median, or of the hop's own 99th percentile if that is longer, what the 99th
#: percentile may be beside other streams.
GOAL_OF_P99 = 4.0
EFFECTS = {"last_byte": "stop to last byte", "closed": "stop to provider's close"}


def figures_of_ours(name: str, ours: Ours) -> Iterator[Figure]:
    """Give a line for each of the models and effects."""
    for model in MODELS:
        for effect, words in EFFECTS.items():
            took = times(ours.stops[model], effect)
            ratio = median(took) / ours.floor
            goal: dict[str, Any] = {}
            if (model, effect) == ("silent", "last_byte"):
                goal = at_most(ratio, GOAL)
            yield Figure(
                what=f"{name}, {model} model: {words}",
                ours=describe(took),
                beside=ours.floor_text(),
                ratio=ratio if ratio < math.inf else None,
                **goal,
            )


def figure_of_p99(name: str, ours: Ours) -> Figure:
    """Give the line of the goal for the slowest stops."""
    took = times(ours.stops["silent"], "last_byte")
    beside = max(median(took), p99(ours.hops))
    ratio = p99(took) / beside
    return Figure(
        what=f"{name}, silent model: p99 of the last byte",
        ours=f"{p99(took):.2f} ms",
        beside=f"its median {median(took):.2f}, p99 of the hop {p99(ours.hops):.2f} ms"
        f" (of the bare answer {p99(ours.bares):.2f})",
        ratio=ratio,
        **at_most(ratio, GOAL_OF_P99),
    )


def figures_beside(ours: Stops, name: str, theirs: Stops) -> Iterator[Figure]:
    """Give a line for each of the models and effects, beside our Redis."""
    for model in MODELS:
        for effect, words in EFFECTS.items():
            our, their = times(ours[model], effect), times(theirs[model], effect)
            yield Figure(
                what=f"{model} model: {words}, beside {name}",
                ours=describe(our),
                beside=f"{describe(their)}{times_longer(their, our)}",
            )


@dataclass(slots=True, kw_only=True)
class Measured:
    """All that the row is made of."""

    ours: dict[str, Ours]
    others: int
    beside_others: dict[str, Ours]
    theirs: dict[str, Theirs]

    def figures(self) -> Iterator[Figure]:
        """Give every line."""
        for name, ours in self.ours.items():
            yield from figures_of_ours(name, ours)
        for store_name, ours in self.beside_others.items():
            name = f"{store_name}, {self.others} other streams"
            yield from figures_of_ours(name, ours)
            yield figure_of_p99(name, ours)
        for name, theirs in self.theirs.items():
            yield from figures_beside(self.ours["Redis"].stops, name, theirs.stops)


def measure_all(provider: Provider, redis_url: str, is_quick: bool) -> Measured:
    """Measure every store, and beside Redis what others do with it."""

    def measure_ours(name: str, url: str, others: int = 0) -> Ours:
        rounds = 3 if is_quick else ROUNDS[name]
        return our_stops(url, provider, rounds, others=others)

    ours, beside_others = {}, {}
    others = 20 if is_quick else OTHERS
    with ThreadPoolExecutor(1) as pool:
        theirs = pool.submit(other_stops, redis_url, provider, is_quick)
        if not is_quick:
            theirs.result()  # nothing else goes on meanwhile
        for name in ("memory", *STORES):
            with nullcontext(redis_url) if name == "Redis" else store(name) as url:
                ours[name] = measure_ours(name, url)
                if name == "Redis" or not is_quick:
                    beside_others[name] = measure_ours(name, url, others)
        return Measured(
            ours=ours,
            others=others,
            beside_others=beside_others,
            theirs=theirs.result(),
        )


def measure(quick: bool = False) -> Row:
    """Measure all of it."""
    with run_provider() as provider, store("Redis") as redis_url:
        measured = measure_all(provider, redis_url, quick)
    return Row(
        name="stop_latency",
        title="From a stop to the last byte, and to the provider's close",
        how=HOW % {"left": measured.theirs["RQ"].left},
        figures=list(measured.figures()),
        draw=partial(draw, measured.ours, measured.theirs),
    )


def main() -> None:
    """Measure a store that is named, and print its lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--others", type=int, default=0, help="other streams")
    parser.add_argument("--rounds", type=int, default=ROUNDS["Redis"])
    arguments = parser.parse_args()
    backend = backend_from_url(arguments.url)
    try:
        backend.check()
    except BackendError as error:
        parser.error(str(error))
    backend.close()
    with run_provider() as provider:
        ours = our_stops(
            arguments.url, provider, arguments.rounds, others=arguments.others
        )
    for figure in figures_of_ours(arguments.url.partition(":")[0], ours):
        ratio = f"{figure.ratio:.2f}"
        print(f"{figure.what}: {figure.ours}; {figure.beside}; ratio {ratio}")


if __name__ == "__main__":
    main()

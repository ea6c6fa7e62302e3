"""An hour of traffic in five minutes, through recycled workers and a store that goes.

Half of the streams go to a gunicorn whose one worker lasts, so that its memory can be
compared with itself, and half to one whose workers are replaced all the time.
"""

import statistics
from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks.support.report import Figure, Row, at_most
from benchmarks.support.traffic_deployment import (
    OUTAGE,
    Deployment,
    Faults,
    Idle,
    deployment,
)
from benchmarks.support.traffic_load import PAUSE, PIECES, Load
from benchmarks.support.traffic_truth import CROSSING, truth, while_full

#: Streams a second, for so many seconds, and what happens to Redis at which seconds.
RATE, SECONDS = 50.0, 300.0
FAULTS = Faults(restarts=(100.0, 220.0), full=(130.0, 190.0))
QUICK_RATE, QUICK_SECONDS = 15.0, 14.0
QUICK_FAULTS = Faults(restarts=(4.0,), full=(8.0, 11.0))
#: Of the rate, what must be reached for the row to mean anything.
REACHED = 0.98
#: MiB by which the lasting worker may grow in the last four fifths of the load, and
#: the objects that the whole load may leave in it: first uses fill caches.
GROWTH, OBJECTS = 2.0, 500

_STREAMS = 0.8 * SECONDS * RATE / 2
HOW = f"""
Two gunicorns (gthread) share a Redis of their own: one worker that lasts, and two that
are each replaced after 100 to 150 requests. Clients begin {RATE:g} streams a second
through both, for {SECONDS:g} s; an answer is {PIECES} pieces from a model behind a
socket of its own, over {PIECES * PAUSE:.1f} s. A tenth is stopped, at any moment of the
answer or just after it, through either gunicorn; 3 % of the clients leave. Redis is
killed twice and comes back {OUTAGE:g} s later, empty. Between the two it is full for a
minute: it refuses what is new (`noeviction`), and goes on with what it knows.

What is held is compared while nothing runs: before the load, when every thread of the
servers has been in use and has its connection to Redis, and after it. Memory is the
lasting worker's (PSS), the median of fifteen samples: after the first fifth of the load
and at its end. It may grow by {GROWTH:g} MiB over the {_STREAMS:,.0f} streams between
the two, {GROWTH * 2**20 / _STREAMS:.0f} bytes for each, since the allocator settles
slowly with so many threads; so the objects that Python holds are counted too, after a
collection, where a leak has nowhere to hide.

A stream went on if its stop was answered `stopped`, or answered `stopping` more than
{1000 * CROSSING:g} ms before its end, and it ended as `finished`; or if its stop was
answered `ended`, and it ended as `stopped`. Those that crossed their natural end within
{1000 * CROSSING:g} ms are counted too: a worker gathers its ends for as long. Each
task's `on_end` is written to a file, and compared with what its client was told.
"""


def measure(quick: bool = False) -> Row:
    """Send the traffic, and look at what it leaves behind."""
    rate = QUICK_RATE if quick else RATE
    seconds = QUICK_SECONDS if quick else SECONDS
    with deployment() as servers:
        start, objects = servers.warm_up(), servers.objects()
        load = servers.run(rate, seconds, QUICK_FAULTS if quick else FAULTS)
        left = servers.tasks_left()
        end = servers.rest(start)
        figures = [
            _reached(load, rate),
            *truth(load.streams, servers.ends_noted()),
            *while_full(load.streams, servers.full),
            *_servers(servers),
            Figure(what="tasks left in the store", ours=f"{left}", **at_most(left, 0)),
            *(_held(what, start, end) for what in ("threads", "sockets", "files")),
            _growth([held.memory for _, held in servers.samples]),
            _objects(objects, servers.objects()),
        ]
    return Row(
        name="traffic",
        title="An hour of traffic in five minutes",
        how=HOW,
        figures=figures,
        draw=partial(_draw, servers, load),
    )


def _reached(load: Load, rate: float) -> Figure:
    return Figure(
        what="streams begun a second",
        ours=f"{load.rate:.1f}",
        beside=f"{len(load.streams):,} in all",
        goal=f"≥ {REACHED * rate:g}",
        is_met=load.rate >= REACHED * rate,
    )


def _servers(servers: Deployment) -> list[Figure]:
    trouble = len(servers.trouble())
    return [
        Figure(
            what="workers replaced",
            ours=f"{servers.workers_replaced()}",
            beside=f"restarts of Redis {len(servers.restarts)}",
        ),
        Figure(
            what="errors in the servers' logs",
            ours=f"{trouble}",
            **at_most(trouble, 0),
        ),
    ]


def _held(what: str, start: Idle, end: Idle) -> Figure:
    before, after = (
        [getattr(held, what) for held in (idle.lasting, idle.recycled, idle.masters)]
        for idle in (start, end)
    )
    more = max(late - early for early, late in zip(before, after, strict=True))
    name = {"files": "descriptors"}.get(what, what)
    return Figure(
        what=f"{name} of the lasting worker, a recycled one, a master",
        ours=", ".join(map(str, after)),
        beside=f"at the start {', '.join(map(str, before))}",
        goal="no more",
        is_met=more <= 0,
    )


def _growth(memory: list[float]) -> Figure:
    first, last = memory[len(memory) // 5 :][:15], memory[-15:]
    growth = statistics.median(last) - statistics.median(first)
    return Figure(
        what="memory that the lasting worker has grown by",
        ours=f"{growth:+.2f} MiB",
        beside=f"after a fifth {statistics.median(first):.1f} MiB",
        **at_most(growth, GROWTH, " MiB"),
    )


def _objects(start: int, end: int) -> Figure:
    return Figure(
        what="Python objects of the lasting worker",
        ours=f"{end - start:+,}",
        beside=f"at the start {start:,}",
        **at_most(end - start, OBJECTS),
    )


def _draw(servers: Deployment, load: Load, axes: Any) -> None:
    began = load.streams[0].begun_at
    held = [holding for _, holding in servers.samples]
    times = [moment - began for moment, _ in servers.samples]
    counts = axes.twinx()
    memory, files = ([getattr(h, name) for h in held] for name in ("memory", "files"))
    _line(axes, "C3", "memory of the lasting worker", times, memory)
    _line(counts, "C0", "its descriptors", times, files)
    _line(counts, "C2", "its threads", times, [holding.threads for holding in held])
    opened = [moment - began for moment, _ in load.is_open]
    numbers = [number for _, number in load.is_open]
    _line(counts, "0.5", "open streams, of all workers", opened, numbers)
    for moment in servers.restarts:
        text = "Redis is killed,\ncomes back empty"
        _mark(axes, moment - began, moment - began + OUTAGE, text)
    if servers.full:
        start, end = servers.full
        _mark(axes, start - began, end - began, "Redis is full")
    axes.set(xlabel="seconds", ylabel="MiB", ylim=(0, 1.25 * max(memory)))
    counts.set(ylabel="number", ylim=(0, 1.9 * max(files)))
    counts.spines["top"].set_visible(False)


def _line(
    axes: Any, color: str, label: str, moments: list[float], values: Sequence[float]
) -> None:
    axes.plot(moments, values, color=color, linewidth=1.2)
    first = sorted(values[: 1 + len(values) // 3])
    top = first[int(0.9 * (len(first) - 1))]  # a spike may cross the text
    axes.annotate(
        label,
        (moments[-1] / 50, top),
        xytext=(0, 4),
        textcoords="offset points",
        color=color,
    )


def _mark(axes: Any, start: float, end: float, text: str) -> None:
    axes.axvspan(start, end, color="0.85" if end - start < 10 else "0.93", linewidth=0)
    axes.annotate(
        text,
        (end, 0.99) if end - start < 10 else (start, 0.88),
        xycoords=("data", "axes fraction"),
        xytext=(4, 0),
        textcoords="offset points",
        va="top",
        fontsize="small",
    )

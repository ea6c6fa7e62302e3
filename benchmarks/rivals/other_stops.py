"""Stops as others do them, measured beside ours on the same Redis."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

from benchmarks.rivals.dramatiq_jobs import dramatiq_abort
from benchmarks.rivals.rq_jobs import rq_worker
from benchmarks.support.provider import MODELS, Provider
from benchmarks.support.stops import Client, Effects, Stops, two_servers

#: Rounds of what takes a second or more, and of what does not.
SLOW_ROUNDS, ROUNDS = 10, 30


@dataclass(slots=True)
class Theirs:
    """What was measured, and what was left of what was stopped."""

    stops: Stops = field(default_factory=lambda: {model: [] for model in MODELS})
    left: str = ""


def polled_flag(url: str, provider: Provider, is_quick: bool, cache: str) -> Theirs:
    """Stop answers of the app that polls a flag, many at once since they only wait.

    :param cache: seconds for which a look at the flag counts.
    """
    rounds = 2 if is_quick else SLOW_ROUNDS
    theirs, app = Theirs(), "benchmarks.rivals.polled_flag:create_app()"
    with two_servers(app, POLLED_FLAG_REDIS=url, POLLED_FLAG_CACHE=cache) as servers:

        def stop(model: str) -> Effects:
            # Anywhere between two looks, which are a second apart.
            with closing(Client(servers, provider)) as client:
                return client.stop(model, spread=1.0)

        with ThreadPoolExecutor(rounds) as pool:
            for model, stops in theirs.stops.items():
                stops += pool.map(stop, [model] * rounds)
    return theirs


def dramatiq(url: str, provider: Provider, is_quick: bool) -> Theirs:
    """Abort actors; those that are never interrupted at once, since they only wait."""
    rounds, theirs = 1 if is_quick else SLOW_ROUNDS, Theirs()
    with dramatiq_abort(url) as queue, ThreadPoolExecutor(rounds) as pool:
        queue.stop(provider, "talking")  # it warms up
        for _ in range(rounds):
            theirs.stops["talking"].append(queue.stop(provider, "talking"))
        calls = pool.map(lambda _: queue.stop(provider, "silent"), range(rounds))
        theirs.stops["silent"] += calls
    return theirs


def rq(url: str, provider: Provider, is_quick: bool) -> Theirs:
    """Stop jobs, one by one."""
    rounds, theirs = 2 if is_quick else ROUNDS, Theirs()
    with rq_worker(url) as queue:
        queue.stop(provider, "silent")  # it warms up
        for _ in range(rounds):
            for model, stops in theirs.stops.items():
                stops.append(queue.stop(provider, model))
        theirs.left = ", ".join(sorted(queue.left))
    return theirs


#: By their names, all that is measured beside ours.
OTHERS = {
    "polled flag": partial(polled_flag, cache="0"),
    "polled flag, cached": partial(polled_flag, cache="1"),
    "dramatiq-abort": dramatiq,
    "RQ": rq,
}


def other_stops(url: str, provider: Provider, is_quick: bool) -> dict[str, Theirs]:
    """Measure the others one after another, or at once to be quick."""
    with ThreadPoolExecutor(len(OTHERS) if is_quick else 1) as pool:
        measured = pool.map(lambda each: each(url, provider, is_quick), OTHERS.values())
        return dict(zip(OTHERS, measured, strict=True))

"""Stops as others do them, measured beside ours on the same Redis.

For these alone: ``python -m benchmarks.rivals.other_stops [NAME ...]``.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

from benchmarks.rivals.dramatiq_jobs import dramatiq_abort
from benchmarks.rivals.resumable_streams import resumable_streams
from benchmarks.rivals.rq_jobs import rq_worker
from benchmarks.support.provider import MODELS, Provider, run_provider
from benchmarks.support.stops import (
    Client,
    Effects,
    Stops,
    describe,
    times,
    two_servers,
)
from benchmarks.support.stores import store

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
    """Abort actors."""
    with dramatiq_abort(url) as queue:
        return _stopped(queue.stop, provider, is_quick)


def resumable_stream(url: str, provider: Provider, is_quick: bool) -> Theirs:
    """Stop conversations."""
    with resumable_streams(url) as chats:
        return _stopped(chats.stop, provider, is_quick)


def _stopped(
    stop: Callable[[Provider, str], Effects], provider: Provider, is_quick: bool
) -> Theirs:
    """Stop one by one, and those of a silent model at once, since they only wait."""
    rounds, theirs = 1 if is_quick else SLOW_ROUNDS, Theirs()
    stop(provider, "talking")  # it warms up
    for _ in range(rounds):
        theirs.stops["talking"].append(stop(provider, "talking"))
    with ThreadPoolExecutor(rounds) as pool:
        calls = pool.map(lambda _: stop(provider, "silent"), range(rounds))
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
OTHERS: dict[str, Callable[[str, Provider, bool], Theirs]] = {
    "polled flag": partial(polled_flag, cache="0"),
    "polled flag, cached": partial(polled_flag, cache="1"),
    "fastapi-resumable-stream": resumable_stream,
    "dramatiq-abort": dramatiq,
    "RQ": rq,
}


def other_stops(url: str, provider: Provider, is_quick: bool) -> dict[str, Theirs]:
    """Measure the others one after another, or at once to be quick."""
    with ThreadPoolExecutor(len(OTHERS) if is_quick else 1) as pool:
        measured = pool.map(lambda each: each(url, provider, is_quick), OTHERS.values())
        return dict(zip(OTHERS, measured, strict=True))


def main() -> None:
    """Measure the others, or those that are named, and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(OTHERS))
    names = parser.parse_args().names or list(OTHERS)
    if unknown := set(names) - OTHERS.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    with run_provider() as provider, store("Redis") as url:
        for name in names:
            for model, stops in OTHERS[name](url, provider, False).stops.items():
                last_byte, closed = (
                    describe(times(stops, each)) for each in ("last_byte", "closed")
                )
                print(f"{name}, {model} model: {last_byte}; closed {closed}")


if __name__ == "__main__":
    main()

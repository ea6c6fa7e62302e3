"""Requests a second of the stop route, beside a bare route with the same keys."""

import io
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.util import setup_testing_defaults

from flask import Flask

from benchmarks.apps.route import make_app, start
from benchmarks.support.report import Figure, Row
from benchmarks.support.stores import STORES, store

HOW = """
Both routes are called as a WSGI server calls them, in one process and one thread, in
turns. The bare route checks the bearer key with flask-httpauth, reads a JSON body and
answers JSON. The task runs in the same process and is stopped again and again: each
request asks the store all the same, but changes and rings nothing, and no stop costs
less. With the memory backend the route is compared with
the bare one; the other lines show what a round trip to each store leaves of it.
"""
#: Of the bare route's rate, what the stop route with the memory backend has to reach.
GOAL = 0.85
ROUNDS = 31
REQUESTS = 400
BODY = json.dumps({"user": "alice"}).encode()


def caller(app: Flask, path: str) -> Callable[[], None]:
    """Make a function that sends one request to an app."""

    def call() -> None:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": path,
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(BODY)),
            "HTTP_AUTHORIZATION": "Bearer demo-key",
            "wsgi.input": io.BytesIO(BODY),
        }
        setup_testing_defaults(environ)
        statuses: list[str] = []
        body = app(environ, lambda status, headers, _=None: statuses.append(status))  # type: ignore[arg-type]
        b"".join(body)
        assert statuses == ["200 OK"], statuses

    return call


@contextmanager
def sides(url: str) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """Give a caller of the bare route and one of the stop route of a running task."""
    app, chatstop = make_app(url)
    task = start(app, chatstop)
    yield (
        caller(app, "/bare/some-id"),
        caller(app, f"/v1/chat-messages/{task.id}/stop"),
    )
    task.end("finished")
    app.extensions["chatstop"].worker.close()


def rate(call: Callable[[], None], requests: int) -> float:
    """Measure requests per second."""
    begun = time.perf_counter()
    for _ in range(requests):
        call()
    return requests / (time.perf_counter() - begun)


def compare(name: str, url: str, rounds: int, requests: int) -> Figure:
    """Measure the two routes in turns, with one store."""
    with sides(url) as (bare, stop):
        rates = [(rate(bare, requests), rate(stop, requests)) for _ in range(rounds)]
    ratio = statistics.median(stop / bare for bare, stop in rates)
    goal: dict[str, Any] = {}
    if name == "memory":
        goal = {"goal": f"≥ {GOAL}", "is_met": ratio >= GOAL}
    return Figure(
        what=f"{name}: requests a second",
        ours=f"{statistics.median(stop for _, stop in rates):,.0f}",
        beside=f"bare route {statistics.median(bare for bare, _ in rates):,.0f}",
        ratio=ratio,
        **goal,
    )


def measure(quick: bool = False) -> Row:
    """Measure the route with every store."""
    figures = []
    extent = (3, 20) if quick else (ROUNDS, REQUESTS)
    for name in ("memory", *STORES):
        with store(name) as url:
            figures.append(compare(name, url, *extent))
    return Row(
        name="route",
        title="Requests a second of the stop route",
        how=HOW,
        figures=figures,
    )

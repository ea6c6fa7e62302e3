"""What it costs that the calls of a task are tracked: each read, and each request."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from benchmarks.support.canned_http import CLIENTS
from benchmarks.support.hooked_stubs import READS, STUBS, Ask, stubs
from benchmarks.support.report import Figure, Row, at_most
from flask_chatstop.upstream import hooks
from flask_chatstop.upstream.calls import Calls, binding

ROUNDS = 61
REQUESTS = 1_000
#: Calls before each measurement: the interpreter has to learn the changed methods.
WARM_UP = 200
#: Microseconds that tracking may add to a read and to a request.
LIMIT = 1.0
HOW = f"""
The methods that the hooks are put around are replaced by ones that do nothing. Each
library is asked for an answer without the hooks, with them by a thread that works for
no task, and with them by one that does: {ROUNDS} rounds, in turns and in changing
order, CPU time of the thread, no garbage collection. Given are the medians of the
differences of a round, so what the hooks add, and nothing else. A **request** is all
from its sending to the close of its answer. A **read** is one of {READS} reads of an
answer. httpx stands on httpcore; openai, anthropic and others on httpcore2; requests
and botocore on urllib3. Beside it stands a request with its answer through the whole
library without the hooks, above a network that answers from memory.
"""
BARE, OTHER, OURS = "without hooks", "in another thread", "in a thread with a task"


@contextmanager
def _bare() -> Iterator[None]:
    hooks.uninstall()
    yield


@contextmanager
def _without_task() -> Iterator[None]:
    hooks.install()
    yield


@contextmanager
def _with_task() -> Iterator[None]:
    hooks.install()
    with binding(Calls()):
        yield


WAYS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    BARE: _bare,
    OTHER: _without_task,
    OURS: _with_task,
}
#: By way, the microseconds of each round.
Costs = dict[str, list[float]]


def cost(call: Callable[[], None], number: int) -> float:
    """Give the microseconds of CPU that one call takes."""
    begun = time.thread_time()
    for _ in range(number):
        call()
    return 1e6 * (time.thread_time() - begun) / number


def cost_of_both(ask: Ask, requests: int) -> tuple[float, float]:
    """Give what a request takes, and what a read takes."""
    cost(lambda: ask(0), WARM_UP)
    request = cost(lambda: ask(0), requests)
    answers = max(1, requests // 50)
    return request, (cost(lambda: ask(READS), answers) - request) / READS


def costs(name: str, rounds: int, requests: int) -> tuple[Costs, Costs]:
    """Give what requests and reads of a library take."""
    a_request: Costs = {way: [] for way in WAYS}
    a_read: Costs = {way: [] for way in WAYS}
    with stubs(name) as ask:
        for number in range(rounds):
            turn = number % len(WAYS)
            for way in (*list(WAYS)[turn:], *list(WAYS)[:turn]):
                gc.collect()
                gc.disable()
                try:
                    with WAYS[way]():
                        request, read = cost_of_both(ask, requests)
                finally:
                    gc.enable()
                a_request[way].append(request)
                a_read[way].append(read)
    return a_request, a_read


def figures_of(name: str, rounds: int, requests: int) -> Iterator[Figure]:
    """Give the lines of one library."""
    whole = CLIENTS[name]()
    cost(whole, WARM_UP)
    beside = statistics.median(cost(whole, requests // 10) for _ in range(rounds))
    a_request, a_read = costs(name, rounds, requests)
    for what, took in (("a read", a_read), ("a request", a_request)):
        for way in (OTHER, OURS):
            added = statistics.median(
                hooked - bare
                for hooked, bare in zip(took[way], took[BARE], strict=True)
            )
            yield Figure(
                what=f"{name}: added to {what} {way}",
                ours=f"{round(added, 2) + 0.0:.2f} µs",
                beside=f"a whole request {beside:.0f} µs",
                **at_most(added, LIMIT, " µs"),
            )


def measure(quick: bool = False) -> Row:
    """Measure every library."""
    extent = (3, 100) if quick else (ROUNDS, REQUESTS)
    return Row(
        name="tracking",
        title="What tracking adds to each read and request",
        how=HOW,
        figures=[figure for name in STUBS for figure in figures_of(name, *extent)],
    )

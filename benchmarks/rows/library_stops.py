"""From a stop to the provider's close, where a client library asks the model."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from benchmarks.support.hops import bus
from benchmarks.support.our_stops import Ours
from benchmarks.support.provider import MUTE, PACE, Provider, run_provider
from benchmarks.support.report import Figure, Row, at_most
from benchmarks.support.stops import (
    LIMIT,
    Client,
    Effects,
    Stops,
    describe,
    median,
    times,
    times_longer,
    two_servers,
)
from benchmarks.support.stores import store
from tests.providers.environments import PROVIDERS

ROUNDS = 150
#: Of the library's own close(), at once.
SLOW_ROUNDS = 5
#: Of the floor, what a stop may take.
GOAL = 1.5
ALL_MODELS = {
    "silent": "silent model",
    "talking": "talking model",
    MUTE: "no headers yet",
}
APP = "benchmarks.apps.libraries:create_app()"
HOW = f"""
As `stop_latency` with Redis, and with the same floor. But the app asks the model by a
client library, in its source, and gives nothing as `upstream`: the stream of openai's
client, and `ChatOpenAI.stream()` of LangChain. Three models: one that says a piece
every {1000 * PACE:g} ms, one that is silent after its first, and one that has got the
request and has not sent the headers of its response. Measured is the time from the
sending of the stop to the close that the provider sees.

Beside it, with `CHATSTOP_TRACK_CALLS` off: `task.on_stop` with the library's own
`close()`, of openai's stream and its client, and of the client below LangChain's model,
whose stream has none that another thread may call. {SLOW_ROUNDS} rounds, at once. What
has not come {LIMIT:g} s after the stop counts as never. Measured with %s.
"""


def key(library: str, model: str) -> str:
    """Name one thing that is stopped."""
    return f"{library}, {ALL_MODELS[model]}"


def measure_ours(
    url: str, provider: Provider, libraries: list[str], python: str, rounds: int
) -> Ours:
    """Measure our stops, and the floor in the same rounds."""
    cells = [(library, model) for library in libraries for model in ALL_MODELS]
    ours = Ours(stops={key(*cell): [] for cell in cells})
    with (
        two_servers(APP, python=python, FLASK_CHATSTOP_BACKEND=url) as servers,
        bus(url) as hop,
        closing(Client(servers, provider)) as client,
    ):
        for number in range(-max(2, rounds // 10), rounds):
            stops = {
                key(library, model): client.stop(model, PACE, library=library)
                for library, model in cells
            }
            bare, raw = client.bare(PACE), hop(PACE)
            if number < 0:  # it warms up
                continue
            for name, effects in stops.items():
                ours.stops[name].append(effects)
            ours.bares.append(bare)
            ours.hops.append(raw)
    return ours


def measure_theirs(
    url: str, provider: Provider, libraries: list[str], python: str, rounds: int
) -> Stops:
    """Measure the close() of the libraries."""
    stops: Stops = {}
    with (
        two_servers(
            APP,
            python=python,
            FLASK_CHATSTOP_BACKEND=url,
            FLASK_CHATSTOP_TRACK_CALLS="false",
        ) as servers,
        ThreadPoolExecutor(rounds) as pool,
    ):

        def stop(library: str, model: str) -> Effects:
            with closing(Client(servers, provider)) as client:
                return client.stop(model, PACE, library=library)

        for library in libraries:
            for model in ALL_MODELS:
                futures = [pool.submit(stop, library, model) for _ in range(rounds)]
                stops[key(library, model)] = [each.result() for each in futures]
    return stops


def figures(libraries: list[str], ours: Ours, theirs: Stops) -> Iterator[Figure]:
    """Give two lines for each library and model."""
    for library in libraries:
        for model in ALL_MODELS:
            name = key(library, model)
            closed = times(ours.stops[name], "closed")
            ratio = median(closed) / ours.floor
            yield Figure(
                what=f"{name}: stop to provider's close",
                ours=describe(closed),
                beside=ours.floor_text(),
                ratio=ratio,
                **at_most(ratio, GOAL),
            )
            their = times(theirs[name], "closed")
            yield Figure(
                what=f"{name}: beside the library's own close()",
                ours=describe(closed),
                beside=f"{describe(their)}{times_longer(their, closed)}",
            )


def versions(python: str, *names: str) -> str:
    """Give the versions of what is installed for a Python."""
    code = "import sys; from importlib.metadata import version as of\n"
    code += "print(', '.join(f'{name} {of(name)}' for name in sys.argv[1:]))"
    command = [python, "-c", code, *names]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def measure(quick: bool = False) -> Row:
    """Measure the libraries that are there."""
    has_langchain = Path(PROVIDERS.path).exists()
    python = PROVIDERS.path if has_langchain else sys.executable
    libraries = ["openai", "LangChain"] if has_langchain else ["openai"]
    names = ["openai", "langchain-openai"] if has_langchain else ["openai"]
    with run_provider() as provider, store("Redis") as url:
        slow = 1 if quick else SLOW_ROUNDS
        theirs = measure_theirs(url, provider, libraries, python, slow)
        rounds = 2 if quick else ROUNDS
        ours = measure_ours(url, provider, libraries, python, rounds)
    lines = list(figures(libraries, ours, theirs))
    if not has_langchain:
        absent = f"no {PROVIDERS.path}: run .ci/environments"
        lines.append(Figure(what="LangChain", ours="not measured", beside=absent))
    return Row(
        name="library_stops",
        title="From a stop to the provider's close, through a client library",
        how=HOW % versions(python, *names).strip(),
        figures=lines,
    )

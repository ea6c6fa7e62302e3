"""A thousand clients that come back to one answer, through one process."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.support.followers import Reading, ask, lags, read_all, task_id_of
from benchmarks.support.processes import Holding, children
from benchmarks.support.stops import Connection
from benchmarks.support.stores import store
from tests.support.servers.gunicorn import Server, gunicorn

APP = "benchmarks.apps.follow:create_app()"
#: Followers that are there before the memory is measured.
_FIRST = 100
#: Numbers of the answer, and seconds between two.
COUNT, PACE = 50, 0.1


@dataclass(frozen=True, slots=True)
class Crowd:
    """What was measured with so many followers.

    :param end: seconds from the last byte of the first client to that of the last one.
    :param lags: seconds from the first client to each follower, of each number.
    :param memory: KiB of a follower, and ``bare`` of a stream of Flask's alone.
    """

    end: float
    lags: list[float]
    memory: float
    bare: float


def crowd(kind: str, number: int) -> Crowd:
    """Measure so many followers under a kind of gunicorn's workers."""
    with ExitStack() as stack:
        url = stack.enter_context(store("Redis"))
        environ = {"FLASK_CHATSTOP_BACKEND": url, "FLASK_CHATSTOP_EVENTS": url}
        source = stack.enter_context(_server("gthread", 20, **environ))
        here = stack.enter_context(_server(kind, _FIRST + number, **environ))
        streams, others = Connection(source.url), Connection(source.url)
        first = ask(streams, COUNT, PACE, waits=True)
        task_id = task_id_of(first)

        def follow() -> Reading:
            reading = Reading(Connection(here.url))
            reading.connection.follow(task_id)
            while 0 not in reading.moments:
                reading.receive()
            return reading

        followers, memory = _grow(here, number, follow)
        others.send("/go", task=task_id)
        read_all([first, *followers])
        assert {follower.body for follower in followers} == {first.body}
        assert first.over is not None
        end = max(follower.over or 0.0 for follower in followers) - first.over
        # They have got the number 0 before.
        del first.moments[0]
        for follower in followers:
            del follower.moments[0]
        late = [lag for follower in followers for lag in lags(first, follower)]
        for reading in (first, *followers):
            reading.connection.socket.close()
        others.socket.close()
    return Crowd(end, late, memory, _bare(kind, number))


def _bare(kind: str, number: int) -> float:
    with _server(kind, _FIRST + number) as server:

        def stream() -> Reading:
            reading = Reading(Connection(server.url))
            reading.connection.send("/bare")
            while b'piece"}' not in reading.received:
                reading.receive()
            return reading

        streams, memory = _grow(server, number, stream)
        for reading in streams:
            reading.connection.socket.close()
    return memory


def _grow(
    server: Server, number: int, begin: Callable[[], Reading]
) -> tuple[list[Reading], float]:
    """Return a few streams and so many more, and the KiB that one of these takes."""
    readings = [begin() for _ in range(_FIRST)]
    [worker] = children(server.process.pid)
    before = Holding.of(worker).memory
    readings += [begin() for _ in range(number)]
    return readings, 1024 * (Holding.of(worker).memory - before) / number


@contextmanager
def _server(kind: str, number: int, **environ: str) -> Iterator[Server]:
    options = ["-k", kind, "--keep-alive", "60", "--worker-connections", "20000"]
    if kind == "gthread":
        options += ["--threads", str(number + 4)]
    with (
        tempfile.TemporaryDirectory() as folder,
        gunicorn(APP, Path(folder), *options, **environ) as server,
    ):
        yield server

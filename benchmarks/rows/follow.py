"""By how much a client that has come back to an answer is behind the first one."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial

from benchmarks.support.crowd_of_followers import APP, Crowd, crowd
from benchmarks.support.crowd_of_followers import COUNT as COUNT_OF_CROWD
from benchmarks.support.crowd_of_followers import PACE as PACE_OF_CROWD
from benchmarks.support.followers import (
    ASK,
    Reading,
    ask,
    lags,
    polling,
    read_all,
    task_id_of,
)
from benchmarks.support.report import Figure, Row, at_most
from benchmarks.support.stops import (
    Connection,
    describe,
    median,
    two_servers,
    wait_at_random,
)
from benchmarks.support.stores import DATABASES, STORES, store
from flask_chatstop.events.database import DatabaseEventLog

#: Answers, numbers of one, and seconds between two.
ANSWERS, COUNT, PACE = 4, 200, 0.02
#: Seconds between two looks of the rival.
POLL = 0.5
ROUNDS = 200
#: Seconds from the first piece to the earliest stop, with a follower or without. Who
#: writes learns within a few milliseconds of who follows.
FOLLOWED = 0.05
FOLLOWERS = 1_000
KINDS = ("gevent", "gthread")
#: Of a stop without a log, what one may take with it; and of the first client's last
#: byte, that of a follower.
GOAL, GOAL_OF_FOLLOWER = 1.1, 2.0
HOW = f"""
Two gunicorn servers share a store; one streams, a follower reads through the other.
With tasks in memory one does both. **Lag**: of {ANSWERS} answers of {COUNT} pieces,
{1000 * PACE:g} ms apart, the time of each piece from the first client to the follower,
both read by one thread. Beside it, in turns, a page that asks for the text so far each
{1000 * POLL:g} ms. It is favoured: the text is in the memory of the process that
streams. **Stop**: of an answer that is silent, from the request through the other
server to the last byte, at least {1000 * FOLLOWED:g} ms after the first piece; without
a log, with one, and with a follower, in turns, {ROUNDS} rounds.
**{FOLLOWERS:,} followers** of one answer of {COUNT_OF_CROWD} pieces,
{1000 * PACE_OF_CROWD:g} ms apart, on Redis, through one worker and read by one thread:
all have got the bytes of the first client. **Memory**: the growth of the worker's PSS
by so many, beside as many streams of a view without this package.
"""


@dataclass(slots=True)
class Measured:
    """What was measured with one store, in seconds.

    :param off: from a stop to the last byte, without a log; so for the next ones.
    :param follower: to the last byte of the follower.
    """

    lags: list[float] = field(default_factory=list)
    polled: list[float] = field(default_factory=list)
    off: list[float] = field(default_factory=list)
    on: list[float] = field(default_factory=list)
    followed: list[float] = field(default_factory=list)
    follower: list[float] = field(default_factory=list)


class Pair:
    """Two servers and the connections to them."""

    def __init__(self, here: str, elsewhere: str) -> None:
        self.here = here
        self.streams = Connection(here)
        self.follows, self.stops = Connection(elsewhere), Connection(elsewhere)

    def follow(self, task_id: str) -> Reading:
        """Come back to an answer."""
        self.follows.follow(task_id)
        return Reading(self.follows)

    def stop(self, *, with_follower: bool = False) -> list[float]:
        """Return the seconds from a stop to the last byte of each client."""
        readings = [ask(self.streams, 1, 0.0, silent=True)]
        task_id = task_id_of(readings[0])
        if with_follower:
            readings.append(self.follow(task_id))
        for reading in readings:
            while 0 not in reading.moments:
                reading.receive()
        time.sleep(FOLLOWED)
        wait_at_random(PACE)
        sent = time.monotonic()
        self.stops.send(f"{ASK}/{task_id}/stop")
        read_all(readings)
        self.stops.until(b'"success"}')
        assert all(b'"end_reason":"stopped"' in reading.body for reading in readings)
        return [(reading.over or sent) - sent for reading in readings]

    def close(self) -> None:
        """Leave both servers."""
        for connection in (self.streams, self.follows, self.stops):
            connection.socket.close()


@contextmanager
def pair(**environ: str) -> Iterator[Pair]:
    """Run two servers of the app."""
    with (
        two_servers(APP, others=0, **environ) as servers,
        closing(Pair(*(server.url for server in servers))) as running,
    ):
        yield running


def measure_store(name: str, is_quick: bool) -> Measured:
    """Measure lags and stops with one store."""
    measured = Measured()
    with store(name) as url:
        events = url.replace("chatstop.db", "events.db")
        if name in DATABASES:
            log = DatabaseEventLog(events)
            log.create_table()
            log.close()
        with (
            pair(FLASK_CHATSTOP_BACKEND=url, FLASK_CHATSTOP_EVENTS=events) as on,
            pair(FLASK_CHATSTOP_BACKEND=url) as off,
        ):
            lags_of_follower(on, 1)  # it connects
            for _ in range(1 if is_quick else ANSWERS):
                measured.lags += lags_of_follower(on, 20 if is_quick else COUNT)
                measured.polled += lags_of_poll(off, 20 if is_quick else COUNT)
            for number in range(-3, 3 if is_quick else ROUNDS):
                stops = stops_in_turn(on, off, number)
                if number >= 0:  # else it warms up
                    measured.off += stops["off"]
                    measured.on += stops["on"]
                    measured.followed.append(stops["followed"][0])
                    measured.follower.append(stops["followed"][1])
    return measured


def stops_in_turn(on: Pair, off: Pair, number: int) -> dict[str, list[float]]:
    """Return what a stop takes in each way, by an order that changes."""
    ways: dict[str, Callable[[], list[float]]] = {
        "off": off.stop,
        "on": on.stop,
        "followed": partial(on.stop, with_follower=True),
    }
    turn = number % len(ways)
    return {way: ways[way]() for way in (*list(ways)[turn:], *list(ways)[:turn])}


def lags_of_follower(on: Pair, count: int) -> list[float]:
    """Return the lag of each piece of an answer that is followed."""
    first = ask(on.streams, count, PACE)
    follower = on.follow(task_id_of(first))
    read_all([first, follower])
    assert follower.body == first.body
    return lags(first, follower)


def lags_of_poll(off: Pair, count: int) -> list[float]:
    """Return the same of an answer that is polled."""
    first = ask(off.streams, count, PACE)
    with polling(off.here, task_id_of(first), POLL) as moments:
        read_all([first])
    return [moments[number] - at for number, at in first.moments.items()]


def figures_of_store(name: str, measured: Measured) -> Iterator[Figure]:
    """Give the lines of one store."""
    yield Figure(
        what=f"{name}: lag behind the first client",
        ours=describe(measured.lags),
        beside=f"polled {describe(measured.polled)}",
        ratio=median(measured.lags) / median(measured.polled),
    )
    for what, took in (("log", measured.on), ("log and a follower", measured.followed)):
        ratio = median(took) / median(measured.off)
        yield Figure(
            what=f"{name}: stop to last byte, with a {what}",
            ours=describe(took),
            beside=f"without {describe(measured.off)}",
            ratio=ratio,
            **at_most(ratio, GOAL),
        )
    ratio = median(measured.follower) / median(measured.followed)
    yield Figure(
        what=f"{name}: stop to a follower's last byte",
        ours=describe(measured.follower),
        beside=f"first client's {describe(measured.followed)}",
        ratio=ratio,
        **at_most(ratio, GOAL_OF_FOLLOWER),
    )


def figures_of_crowd(kind: str, number: int, measured: Crowd) -> Iterator[Figure]:
    """Give the lines of many followers."""
    name = f"{number:,} followers, {kind}"
    yield Figure(
        what=f"{name}: the last one has the end",
        ours=f"{1000 * measured.end:.0f} ms after the first client",
        beside=f"lag of all pieces {describe(measured.lags)}",
    )
    yield Figure(
        what=f"{name}: memory of each",
        ours=f"{measured.memory:.1f} KiB",
        beside=f"bare stream {measured.bare:.1f} KiB",
        ratio=measured.memory / measured.bare,
    )


def measure(quick: bool = False) -> Row:
    """Measure every store, and many followers."""
    figures = [
        figure
        for name in ("memory", *STORES)
        for figure in figures_of_store(name, measure_store(name, quick))
    ]
    number = 50 if quick else FOLLOWERS
    for kind in KINDS:
        figures += figures_of_crowd(kind, number, crowd(kind, number))
    return Row(
        name="follow",
        title="How far a client that comes back is behind",
        how=HOW,
        figures=figures,
    )

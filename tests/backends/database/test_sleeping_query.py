"""The listening by a query that sleeps, on a server that is played by the tests."""

import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

import pytest

from flask_chatstop import BackendError
from flask_chatstop.backends.database import sleeping_query
from flask_chatstop.backends.database.base import Listening
from flask_chatstop.backends.database.sleeping_query import Sleeper, hear_rings

Step = Callable[["Server"], object]


@dataclass
class Server(Sleeper):
    """What happens on the server: one step each time that the listener waits."""

    steps: Iterator[Step]
    rings_arrive: bool = True
    is_rung: bool = False
    stopping: set[str] = field(default_factory=set)
    heard: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def fall_asleep(self) -> None:
        self.log.append("sleep")

    def is_awake(self, seconds: float) -> bool:
        if not self.is_rung:
            self.waits.append(seconds)
            next(self.steps, Server.close)(self)
        if not self.is_rung:
            self.closing.wait(seconds)
        return self.is_rung

    def wake_up(self) -> Collection[str]:
        self.log.append("wake")
        self.is_rung = False
        return set(self.stopping)

    def poll(self) -> Collection[str]:
        self.log.append("poll")
        self.heard += self.stopping
        return set(self.stopping)

    def ring(self) -> None:
        self.is_rung = self.rings_arrive

    def stop(self) -> None:
        self.log.clear()
        self.stopping.add(f"task {len(self.stopping)}")
        self.ring()

    def miss_a_stop(self) -> None:
        self.stopping.add("missed")

    def wait(self) -> None:
        """Let nothing happen."""

    def close(self) -> None:
        self.closing.set()

    def listen(self, timeout: float = 60.0) -> None:
        listening = Listening(
            name="worker",
            poll=self.poll,
            heard=self.heard.extend,
            known=tuple,
            news=("", {}),
            register=lambda _: None,
            query=lambda _: None,
            ring=self.ring,
            closing=self.closing,
            timeout=timeout,
            is_outdated=lambda: False,
        )
        hear_rings(self, listening)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a listener that is reached poll sooner than after seconds."""
    monkeypatch.setattr(sleeping_query, "TRUSTING", 0.2)


def serve(*steps: Step, rings_arrive: bool = True) -> Server:
    server = Server(iter(steps), rings_arrive=rings_arrive)
    server.listen()
    return server


def test_the_query_sleeps_before_the_table_is_polled() -> None:
    assert serve().log[:5] == ["sleep", "poll", "wake", "sleep", "poll"]


def test_a_stop_that_rings_is_heard_on_waking_up() -> None:
    server = serve(Server.stop)
    assert server.log[:3] == ["wake", "sleep", "poll"]
    assert server.heard[0] == "task 0"


def test_a_worker_that_rings_do_not_reach_polls_more_often() -> None:
    reached, not_reached = serve(), serve(rings_arrive=False)
    assert not_reached.waits[0] < reached.waits[0]


def test_a_worker_that_has_missed_a_ring_polls_more_often_from_then_on() -> None:
    server = serve(Server.miss_a_stop, *[Server.wait] * 6)
    assert server.heard[0] == "missed"
    assert server.waits[-1] < server.waits[0]


def test_a_ring_that_comes_after_the_poll_was_not_missed() -> None:
    steps = [Server.miss_a_stop, Server.ring, *[Server.wait] * 6]
    server = serve(*steps)
    assert server.heard[0] == "missed"
    assert set(server.waits) == {server.waits[0]}


def test_a_server_that_ends_every_sleep_early_is_given_a_pause() -> None:
    pauses: list[float | None] = []

    class Closing(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout)
            return True

    server = Server(iter([Server.ring] * 6), closing=Closing())
    server.listen()
    assert len(pauses) >= 3


def test_a_server_that_never_ends_a_query_is_given_up() -> None:
    server = Server(iter([Server.wait] * 10), rings_arrive=False)
    server.seconds = 0.01
    with pytest.raises(BackendError, match="has not ended"):
        server.listen(timeout=0.01)


def test_no_query_is_left_asleep() -> None:
    assert serve().log[-1] == "wake"

"""Stops with one of our stores, and the floor in the same rounds."""

from contextlib import closing
from dataclasses import dataclass, field

from benchmarks.support.hops import bus
from benchmarks.support.provider import MODELS, PACE, Provider
from benchmarks.support.stops import Client, Stops, median, two_servers


@dataclass(slots=True)
class Ours:
    """What was measured with one store."""

    stops: Stops = field(default_factory=lambda: {model: [] for model in MODELS})
    #: Seconds, and so for the hops.
    bares: list[float] = field(default_factory=list)
    hops: list[float] = field(default_factory=list)

    @property
    def bare(self) -> float:
        """What a bare route takes to answer, in milliseconds."""
        return median(self.bares)

    @property
    def floor(self) -> float:
        """The bare answer and a hop of the store's bus, in milliseconds."""
        return self.bare + median(self.hops)

    def floor_text(self) -> str:
        """Give the floor as text."""
        hop = f" + hop {median(self.hops):.2f}" if any(self.hops) else ""
        return f"bare answer {self.bare:.2f}{hop} ms"


def our_stops(
    url: str,
    provider: Provider,
    rounds: int,
    *,
    others: int = 0,
) -> Ours:
    """Measure one store.

    :param others: other streams that the servers are busy with.
    """
    app, ours, spread = "benchmarks.apps.latency:create_app()", Ours(), PACE
    with (
        two_servers(app, others, FLASK_CHATSTOP_BACKEND=url) as servers,
        bus(url) as hop,
        closing(Client(servers, provider)) as client,
    ):
        for number in range(-max(2, rounds // 10), rounds):
            stops = {model: client.stop(model, spread) for model in MODELS}
            bare, raw = client.bare(PACE), hop(PACE)
            if number < 0:  # it warms up
                continue
            for model, effects in stops.items():
                ours.stops[model].append(effects)
            ours.bares.append(bare)
            ours.hops.append(raw)
    return ours

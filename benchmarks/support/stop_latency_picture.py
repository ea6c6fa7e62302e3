"""The picture of ``stop_latency``: what a stop does while the model is silent."""

import math
from collections.abc import Mapping
from typing import Any

from benchmarks.rivals.other_stops import Theirs
from benchmarks.support.our_stops import Ours
from benchmarks.support.stops import LIMIT, median, times

_TICKS = {1: "1 ms", 10: "10 ms", 100: "100 ms", 1_000: "1 s", 10_000: "10 s"}
_NOTES = {"RQ": ",\nwhich kills the job"}
_LAST_BYTE, _CLOSED, _FLOOR = "#1f6f8b", "#e08e45", "#222222"


def draw(
    all_ours: Mapping[str, Ours], all_theirs: Mapping[str, Theirs], axes: Any
) -> None:
    """Draw two bars for each, on a logarithmic scale, and the floors."""
    rows = [(f"ours, {name}", ours.stops["silent"]) for name, ours in all_ours.items()]
    rows += [
        (f"{name}{_NOTES.get(name, '')}", theirs.stops["silent"])
        for name, theirs in all_theirs.items()
    ]
    kinds = (
        ("last_byte", "last byte, or the job's end", -0.19, _LAST_BYTE),
        ("closed", "provider's socket closed", 0.19, _CLOSED),
    )
    for effect, words, offset, colour in kinds:
        middles = [median(times(stops, effect)) for _, stops in rows]
        _bars(axes, middles, words, offset, colour)
    for number, ours in enumerate(all_ours.values()):
        label = "floor: bare answer + one raw hop" if number == 0 else None
        place = number - 0.42, number + 0.42
        axes.vlines(ours.floor, *place, color=_FLOOR, linewidth=2, label=label)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(0.4, 1000 * LIMIT * 6)
    axes.set_xticks(list(_TICKS), list(_TICKS.values()))
    axes.minorticks_off()
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("after the stop, with a silent model (logarithmic)")
    axes.legend(loc="upper right", frameon=False)


def _bars(
    axes: Any, middles: list[float], words: str, offset: float, colour: str
) -> None:
    places = [number + offset for number in range(len(middles))]
    limited = [min(middle, 1000 * LIMIT) for middle in middles]
    bars = axes.barh(places, limited, height=0.36, color=colour, label=words)
    for bar, middle in zip(bars, middles, strict=True):
        if middle == math.inf:
            bar.set(hatch="////", facecolor="white", edgecolor=colour)
    axes.bar_label(bars, [_label(middle) for middle in middles], padding=3, fontsize=8)


def _label(middle: float) -> str:
    if middle == math.inf:
        return f"not within {LIMIT:g} s"
    return f"{middle:,.0f} ms" if middle >= 100 else f"{middle:.1f} ms"

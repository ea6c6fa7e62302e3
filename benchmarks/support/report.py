"""What a benchmark reports, and the page and pictures that are made of it.

Each row of the page is measured by a module of its own, whose ``measure`` gives a
:class:`Row`. It is kept as JSON and a picture in ``benchmarks/results``, so that one
row can be measured again without the others.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.support.machine import describe

PAGE = Path(__file__).parents[1] / "RESULTS.md"
RESULTS = Path(__file__).parents[1] / "results"
_HEADS = ("row", "what", "ours", "beside it", "ratio", "goal", "met")
_INTRO = """# Results

Written by `python -m benchmarks`. Each line is a ratio or a pair of one run, on a
machine that others use too: compare within a line, not between machines.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measurement, and what was measured beside it in the same run.

    :param ours: with its unit, and so for ``beside``, which says what it is.
    :param goal: what is asked of it; empty without one.
    :param is_met: whether the goal is met; ``None`` without one.
    """

    what: str
    ours: str
    beside: str = ""
    ratio: float | None = None
    goal: str = ""
    is_met: bool | None = None

    def cells(self, row: str) -> tuple[str, ...]:
        """Give the cells of its line in the table."""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        met = {None: "", True: "yes", False: "**no**"}[self.is_met]
        return row, self.what, self.ours, self.beside, ratio, self.goal, met


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A question, how it was measured, and the figures that answer it.

    :param name: of the module that measures it.
    :param how: Markdown.
    :param draw: draws a picture of it on matplotlib's axes.
    """

    name: str
    title: str
    how: str
    figures: Sequence[Figure]
    draw: Callable[[Any], None] | None = None

    def table(self) -> str:
        """Give its figures alone as a table."""
        return _table([figure.cells(self.name) for figure in self.figures])

    def keep(self, load: float) -> None:
        """Keep it for the page.

        :param load: of the machine, before anything was measured.
        """
        RESULTS.mkdir(exist_ok=True)
        kept = {
            "title": self.title,
            "how": self.how.strip(),
            "figures": [asdict(figure) for figure in self.figures],
            "measured": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "load": round(load, 1),
            "machine": describe(),
        }
        text = json.dumps(kept, indent=1, ensure_ascii=False)
        (RESULTS / f"{self.name}.json").write_text(f"{text}\n")
        if self.draw is not None:
            _save_picture(self.name, self.title, self.draw)


def at_most(value: float, limit: float, unit: str = "") -> dict[str, Any]:
    """Give the goal of a figure that may not be above a limit, and whether it is."""
    return {"goal": f"≤ {limit:g}{unit}", "is_met": value <= limit}


def write_page(names: Sequence[str]) -> str:
    """Write ``RESULTS.md`` of the rows that are kept, and give its table."""
    kept = {
        name: json.loads((RESULTS / f"{name}.json").read_text())
        for name in names
        if (RESULTS / f"{name}.json").exists()
    }
    table = _table(
        [
            Figure(**figure).cells(str(number))
            for number, row in enumerate(kept.values(), 1)
            for figure in row["figures"]
        ]
    )
    sections = [
        _section(number, name, row)
        for number, (name, row) in enumerate(kept.items(), 1)
    ]
    PAGE.write_text("\n".join([_INTRO, table, "", *sections, _machines(kept)]))
    return table


def _section(number: int, name: str, row: dict[str, Any]) -> str:
    lines = [f"## {number}. {row['title']}", row["how"]]
    if (RESULTS / f"{name}.png").exists():
        lines.append(f"![{row['title']}](results/{name}.png)")
    lines.append(
        f"`python -m benchmarks {name}`, {row['measured']}, load before {row['load']}."
    )
    return "\n\n".join(lines) + "\n"


def _machines(kept: dict[str, dict[str, Any]]) -> str:
    rows: dict[str, list[str]] = {}
    for number, row in enumerate(kept.values(), 1):
        rows.setdefault(row["machine"], []).append(str(number))
    lines = [
        f"Rows {', '.join(numbers)}: {machine}." for machine, numbers in rows.items()
    ]
    return "\n\n".join(["## The machine", *lines]) + "\n"


def _table(lines: Sequence[Sequence[str]]) -> str:
    rows = [_HEADS, *lines]
    widths = [max(len(row[n]) for row in rows) for n in range(len(_HEADS))]
    head, *rest = (f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows)
    rule = "|".join("-" * (width + 2) for width in widths)
    return "\n".join([head, f"|{rule}|", *rest])


def _save_picture(name: str, title: str, draw: Callable[[Any], None]) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    draw(axes)
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(RESULTS / f"{name}.png", dpi=120)
    pyplot.close(figure)

"""The figures on the page "Deploying" are those that were measured."""

import re

from tests.support.paths import DOCS, ROOT

PAGE = (DOCS / "deploying.md").read_text()
RESULTS = (ROOT / "benchmarks" / "RESULTS.md").read_text()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_every_figure_is_in_the_row_of_the_results_that_it_names() -> None:
    measured = [cells(line) for line in RESULTS.splitlines() if line.startswith("| ")]
    figures = re.findall(r"^\| [^|]+ \| ([^|]+) \| (\d+), `([^`]+)` \|$", PAGE, re.M)
    assert len(figures) > 10
    for figure, number, name in figures:
        [*rows] = [row for row in measured if row[:2] == [number, name]]
        given = {text for row in rows for text in row[2:4]}
        value = figure.removesuffix(" a second") if number == "6" else figure
        assert any(re.search(rf"(^|\s){re.escape(value)}", text) for text in given), (
            name,
            figure,
        )

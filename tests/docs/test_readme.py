"""The README says what was measured."""

import re

import pytest

from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text()


# A claim of the README, the row of the benchmarks that has its figure, and the column.
FIGURES = [
    ("it takes {} from", "Redis, silent model: stop to last byte", 0),
    ("takes {}, or", "silent model: stop to last byte, beside polled flag", 1),
    ("or {} in", "silent model: stop to last byte, beside polled flag, cached", 1),
    (
        "not hung up on {}.",
        "silent model: stop to provider's close, beside polled flag",
        1,
    ),
    (
        "dramatiq-abort do neither {}.",
        "silent model: stop to last byte, beside fastapi-resumable-stream",
        1,
    ),
    (
        "dramatiq-abort do neither {}.",
        "silent model: stop to provider's close, beside fastapi-resumable-stream",
        1,
    ),
    (
        "dramatiq-abort do neither {}.",
        "silent model: stop to last byte, beside dramatiq-abort",
        1,
    ),
    (
        "dramatiq-abort do neither {}.",
        "silent model: stop to provider's close, beside dramatiq-abort",
        1,
    ),
    ("RQ takes {}:", "silent model: stop to last byte, beside RQ", 1),
    ("headers: {} with", "openai, no headers yet: stop to provider's close", 0),
    (
        "`close()` does not do it {}.",
        "openai, no headers yet: beside the library's own close()",
        1,
    ),
    ("A stop is {} message,", "1,000 workers: messages a stop", 0),
    ("{} of CPU", "chat_response: CPU above a bare generator", 0),
    ("test with {} streams", "streams begun a second", 1),
    ("{} workers were", "workers replaced", 0),
    ("{} ends were lost", "ends told never, twice, or otherwise than to `on_end`", 0),
    ("{} stops", "stops answered with success whose stream went on", 0),
]


@pytest.mark.parametrize(("claim", "row", "column"), FIGURES)
def test_its_figures_are_those_of_the_benchmarks(
    claim: str, row: str, column: int
) -> None:
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text()
    [found] = re.findall(
        rf"^\| \d+ +\| {re.escape(row)} +\|(.*)", results, re.MULTILINE
    )
    cell = found.split("|")[column]
    [figure] = re.findall(r"^ (?:not )?(within 5 s|[\d.,]+(?: ms| µs)?)", cell)
    assert claim.format(figure) in " ".join(README.split())

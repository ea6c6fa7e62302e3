"""The README does what it says, as a new user would type it."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from flask_chatstop.testing import wait_until
from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text()


def curl_lines() -> list[str]:
    return re.findall(r"^curl .*", README, re.MULTILINE)


def test_its_first_screen_streams_an_answer_and_stops_it(
    running_example: str, tmp_path: Path
) -> None:
    stream, stop = (
        line.replace("127.0.0.1:5000", running_example) for line in curl_lines()
    )
    answer = tmp_path / "answer"
    with answer.open("wb") as output:
        streaming = subprocess.Popen(
            stream, shell=True, stdout=output, stderr=subprocess.PIPE
        )
    wait_until(lambda: "count to three hundred" in answer.read_text())
    [task_id] = set(re.findall(r'"task_id":"([^"]+)"', answer.read_text()))
    stopped = subprocess.run(
        stop.replace("TASK_ID", task_id), shell=True, capture_output=True, text=True
    )
    streaming.communicate(timeout=10)
    assert stopped.stdout.startswith("HTTP/1.1 200 OK")
    assert "Chatstop-Outcome: stopping" in stopped.stdout
    assert stopped.stdout.endswith('{"result":"success"}')
    last = answer.read_text().strip().splitlines()[-1]
    assert '"event":"message_end"' in last
    assert '"end_reason":"stopped"' in last


def test_its_app_is_an_app() -> None:
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), names)
    response = names["app"].test_client().post("/v1/chat-messages/x/stop")
    assert response.status_code == 401


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

"""The README does what it says, as a new user would type it."""

import re
import subprocess
from pathlib import Path
from typing import Any

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


def test_its_figures_are_those_of_the_benchmarks() -> None:
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text()
    rows = "".join(re.findall(r"^\| .*\n", results, re.MULTILINE))
    [claims] = re.findall(r"^## What it does that .*?^## ", README, re.DOTALL | re.M)
    figures = re.findall(r"[\d.,]+\d(?: ms| µs)?\b|\d+ s\b", claims)
    assert len(figures) > 5
    missing = [it for it in figures if not re.search(rf"(?<![\d.,]){it}", rows)]
    assert missing == []

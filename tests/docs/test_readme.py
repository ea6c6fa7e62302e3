"""The README does what it says, as a new user would type it."""

import re
import subprocess
from pathlib import Path
from typing import Any

from flask_chatstop import config
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


def test_it_names_every_key_of_the_configuration() -> None:
    documented = set(re.findall(r"`+(CHATSTOP_\w+)`+", config.__doc__ or ""))
    assert documented
    assert documented == set(re.findall(r"^\| `(CHATSTOP_\w+)`", README, re.MULTILINE))
    code = (ROOT / "flask_chatstop" / "config.py").read_text()
    assert documented == set(re.findall(r'"(CHATSTOP_\w+)"', code))

"""The app of the README streams an answer of a model, and is stopped, as typed."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_chatstop.testing import wait_until
from tests.support.paths import ROOT
from tests.support.provider import TOKENS, Provider
from tests.support.servers.gunicorn import Server
from tests.support.servers.others import COMMANDS, serving

README = (ROOT / "README.md").read_text()


@pytest.fixture
def app(silent: Provider, tmp_path: Path) -> Iterator[Server]:
    """Save the README's lines and run them by its command."""
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "app.py").write_text(code)
    [command] = re.findall(r"^flask run$", README, re.MULTILINE)
    script = f"cd {tmp_path}\nexec {command} --port {{port}}"
    environ = {"OPENAI_BASE_URL": silent.url, "OPENAI_API_KEY": "any"}
    path = f"{COMMANDS}:/usr/bin:/bin"
    with serving(
        tmp_path,
        *("bash", "-ec", script),
        PATH=path,
        PYTHONPATH=str(ROOT),
        **environ,
    ) as server:
        yield server


@pytest.mark.parametrize(("then", "said"), [("mute", []), ("silence", TOKENS)])
def test_its_commands_stop_a_model_before_and_after_its_first_word(
    app: Server, silent: Provider, tmp_path: Path, then: str, said: list[str]
) -> None:
    silent.then = then
    ask, stop = (
        line.replace("http://127.0.0.1:5000", app.url)
        for line in re.findall(r"^curl .*", README, re.MULTILINE)
    )
    answer = tmp_path / "answer"
    with answer.open("wb") as output:
        streaming = subprocess.Popen(ask, shell=True, stdout=output)
    wait_until(lambda: bool(silent.calls))
    [call] = silent.calls
    assert call.silent.wait(30)
    wait_until(lambda: (said[-1] if said else "task_id") in answer.read_text())
    [task_id] = re.findall(r'"task_id":"([^"]+)"', answer.read_text())[:1]
    stopped = subprocess.run(
        stop.replace("TASK_ID", task_id), shell=True, capture_output=True, text=True
    )
    streaming.communicate(timeout=60)
    assert stopped.stdout.startswith("HTTP/1.1 200 OK")
    assert "Chatstop-Outcome: stopping" in stopped.stdout
    assert stopped.stdout.endswith('{"result":"success"}')
    assert re.findall(r'"answer":"([^"]+)"', answer.read_text()) == said
    assert '"end_reason":"stopped"' in answer.read_text().strip().splitlines()[-1]
    assert call.closed.wait(30), "the model was not hung up on"


def test_a_stop_needs_ten_lines_beside_those_that_ask_the_model() -> None:
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    lines = [line for line in code.splitlines() if line]
    model = re.findall(r"^def answer.*\n(?:    .*\n)+|^from openai .*\n", code, re.M)
    assert len(lines) - len("".join(model).splitlines()) <= 10
    assert len(lines) <= 14

"""What the example does when it is told to end."""

import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.support.chat import AUTH
from tests.support.paths import ROOT
from tests.support.servers.redis import free_port


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_reports_the_ends_of_its_answers(number: int, tmp_path: Path) -> None:
    port = free_port()
    with subprocess.Popen(
        [sys.executable, ROOT / "example_app.py", "--port", str(port)],
        cwd=tmp_path,
        env={"FLASK_CHATSTOP_BACKEND": f"sqlite:///{tmp_path}/chatstop.db"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "Running on" in line:
                break
        url = f"http://127.0.0.1:{port}/v1/chat-messages"
        body = {"query": "Hello", "user": "alice"}
        with httpx2.stream("POST", url, json=body, headers=AUTH) as response:
            lines = response.iter_lines()
            assert any("You said" in line for line in lines)
            process.send_signal(number)
            assert any("could not be completed" in line for line in lines)
        assert "failed: You said 'Hello'" in process.stdout.read()

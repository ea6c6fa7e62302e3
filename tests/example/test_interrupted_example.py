"""What the example does when it is told to end."""

import signal
from pathlib import Path

import httpx2
import pytest

from tests.support.chat import AUTH
from tests.support.servers.example import example_process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_reports_the_ends_of_its_answers(number: int, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/chatstop.db"
    body = {"query": "Hello", "user": "alice"}
    with example_process(FLASK_CHATSTOP_BACKEND=store) as (process, address):
        assert process.stdout is not None
        url = f"http://{address}/v1/chat-messages"
        with httpx2.stream(
            "POST", url, json=body, headers=AUTH, timeout=30
        ) as response:
            lines = response.iter_lines()
            assert any("You said" in line for line in lines)
            process.send_signal(number)
            assert any("could not be completed" in line for line in lines)
        assert "failed: You said 'Hello'" in process.stdout.read()

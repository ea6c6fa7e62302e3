"""The running example answers as its own OpenAPI document says: by schemathesis."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import example_app
from tests.support.servers.gunicorn import Reader, Server, gunicorn

STOP = "/v1/chat-messages/{task_id}/stop"


@pytest.fixture
def example(tmp_path: Path) -> Iterator[Server]:
    """Run the example, and leave its document at ``openapi.json``."""
    app = example_app.create_app({"CHAT_DATABASE": tmp_path / "document.db"})
    with app.test_request_context():
        document = example_app.chatstop.openapi()
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    with gunicorn(
        "example_app:create_app()",
        tmp_path,
        *("-k", "gthread", "--threads", "8"),
        FLASK_CHAT_DATABASE=str(tmp_path / "chat.db"),
    ) as server:
        yield server
    assert "Traceback" not in server.log.read_text()


def schemathesis(server: Server, tmp_path: Path, *options: str) -> str:
    """Run every check that there is, and give what it prints."""
    run = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", "openapi.json"),
            *("--url", server.url, "--checks", "all", "--max-examples", "100"),
            *("--generation-deterministic", "--continue-on-failure", "--no-color"),
            *options,
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Coverage (in" in run.stdout and "Fuzzing (in" in run.stdout
    return run.stdout


def with_key(key: str) -> tuple[str, str]:
    return "-H", f"Authorization: Bearer {key}"


def restrict(tmp_path: Path, task_id: str, user: str) -> None:
    """Let the document at ``openapi.json`` speak of the stop of one user's task."""
    path = tmp_path / "openapi.json"
    document: dict[str, Any] = json.loads(path.read_text())
    document["paths"] = {STOP: document["paths"][STOP]}
    operation = document["paths"][STOP]["post"]
    operation["parameters"][0]["schema"]["enum"] = [task_id]
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    body["properties"]["user"]["enum"] = [user]
    path.write_text(json.dumps(document))


def test_stops_of_unknown_tasks_are_answered_as_documented(
    example: Server, tmp_path: Path
) -> None:
    printed = schemathesis(example, tmp_path, *with_key("demo-key"))
    assert "repeatedly returned 404" in printed


def test_stops_of_a_running_task_are_answered_as_documented(
    example: Server, tmp_path: Path
) -> None:
    reader = Reader(example)
    task_id = str(reader.next()["task_id"])
    restrict(tmp_path, task_id, "alice")
    printed = schemathesis(example, tmp_path, *with_key("demo-key"))
    assert "repeatedly returned 404" not in printed
    assert reader.rest()[-1]["metadata"]["end_reason"] == "stopped"
    assert example.stop(task_id).headers["Chatstop-Outcome"] == "stopped"


@pytest.mark.parametrize("key", [with_key("wrong"), ()], ids=["wrong", "missing"])
def test_without_a_valid_key_nothing_but_401_is_answered(
    example: Server, tmp_path: Path, key: tuple[str, ...]
) -> None:
    printed = schemathesis(example, tmp_path, *key)
    assert "returned only 401/403 responses" in printed


def test_a_user_that_the_document_forbids_is_refused(
    example: Server, tmp_path: Path
) -> None:
    document = json.loads((tmp_path / "openapi.json").read_text())
    operation = document["paths"][STOP]["post"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    user = "a\0"
    assert not re.search(body["properties"]["user"]["pattern"], user)
    assert example.stop("x", user=user).status_code == 400

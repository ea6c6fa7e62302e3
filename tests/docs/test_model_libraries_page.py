"""The page on model libraries says what the tests of the libraries show."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from flask_chatstop import GenerationTask
from flask_chatstop.testing import wait_until
from tests.providers.environments import ENVIRONMENTS
from tests.support.chat import AUTH, Answer, Chat
from tests.support.pages import names_of
from tests.support.paths import DOCS, ROOT
from tests.support.provider import TOKENS, Provider

PAGE = "model-libraries.md"
LIBRARIES = ROOT / "tests" / "providers" / "libraries"
_ROW = re.compile(r"^\| (.*) \| (.*) \| (.*) \| (.*) \| `(\w+)` \|$", re.MULTILINE)
ROWS = [match.groups() for match in _ROW.finditer((DOCS / PAGE).read_text())]


def test_its_rows_are_the_libraries_that_are_tested() -> None:
    tested = {name for each in ENVIRONMENTS for name in each.libraries()}
    assert [row[-1] for row in ROWS if row[-1] not in tested] == []
    assert sorted(tested - {row[-1] for row in ROWS}) == []
    assert len({row[-1] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[-1])
def test_what_a_row_shows_is_what_its_test_does(row: tuple[str, ...]) -> None:
    library, shown, modes, versions, test = row
    source = (LIBRARIES / f"{test}.py").read_text()
    for code in re.findall(r"`(.*?)`", shown):
        for part in re.findall(r"[\w.]+\(|\w+=[\w\"]+", code):
            assert part in source, f"{library}: {part}"
    # tests/providers/test_libraries.py tries each in all modes.
    assert modes == "yes / yes / yes"
    assert re.fullmatch(r"[\w-]+ [\d.]+(, ([\w-]+ )?[\d.]+)*", versions)


@pytest.fixture
def model(silent: Provider, monkeypatch: pytest.MonkeyPatch) -> Provider:
    monkeypatch.setenv("OPENAI_BASE_URL", silent.url)
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    return silent


def test_its_app_hangs_up_on_a_silent_model(model: Provider) -> None:
    client: FlaskClient = names_of(PAGE).app.test_client()
    body = {"user": "alice", "query": "hello"}
    answer = Answer(client.post("/v1/chat-messages", json=body, headers=AUTH))
    assert [answer.next()["answer"] for _ in TOKENS] == TOKENS
    url = f"/v1/chat-messages/{answer.task_id}/stop"
    client.post(url, json={"user": "alice"}, headers=AUTH)
    assert answer.rest()[-1]["metadata"]["end_reason"] == "stopped"
    assert model.calls[0].closed.wait(30)


def test_its_view_that_asks_a_model_is_answered_as_stopped(model: Provider) -> None:
    model.then = "mute"
    app = names_of(PAGE).app
    body = {"user": "alice", "query": "hello", "task_id": "of-the-client"}
    answers: list[Answer] = []

    def ask() -> None:
        url = "/v1/rewritten-messages"
        answers.append(Answer(app.test_client().post(url, json=body, headers=AUTH)))

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: bool(model.calls))
    stop = "/v1/chat-messages/of-the-client/stop"
    app.test_client().post(stop, json={"user": "alice"}, headers=AUTH)
    asking.join(30)
    assert answers[0].rest()[-1]["metadata"]["end_reason"] == "stopped"
    assert model.calls[0].closed.wait(30)
    assert len(model.calls) == 1


def test_its_threads_of_the_app_s_own_are_hung_up_on(model: Provider) -> None:
    ask = names_of(PAGE).from_two_models
    chat = Chat(lambda task: ask(task, ["one", "two"]))
    answer = chat.ask()
    reading = threading.Thread(target=answer.rest)
    reading.start()
    wait_until(lambda: len(model.calls) == 2)
    chat.stop(answer.task_id)
    reading.join(30)
    assert all(call.closed.wait(30) for call in model.calls)
    assert chat.ends[0].calls_cut == 2


def test_its_process_is_ended() -> None:
    started: list[subprocess.Popen[str]] = []
    script = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    run = names_of(PAGE).from_process

    def pieces(task: GenerationTask) -> Iterator[str]:
        lines = run(task, [sys.executable, "-c", script])
        yield next(lines)
        started.append(lines.gi_frame.f_locals["process"])
        yield from lines

    chat = Chat(pieces)
    answer = chat.ask()
    answer.next()
    wait_until(lambda: bool(started))
    chat.stop(answer.task_id)
    answer.rest()
    started[0].wait(30)

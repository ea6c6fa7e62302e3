"""The documentation builds without a warning, and what it shows works."""

import ast
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY
from werkzeug.test import TestResponse

import flask_chatstop
from flask_chatstop import ChatStop, EndReason, GenerationTask, current_task
from flask_chatstop.backends import RedisBackend
from flask_chatstop.testing import ALICE, listening, new_record, wait_until
from tests.support.chat import AUTH, Answer, Chat, Source
from tests.support.pages import blocks, names_of, run
from tests.support.paths import DOCS, ROOT
from tests.support.provider import TOKENS, Provider
from tests.support.servers.gunicorn import Reader, gunicorn
from tests.support.servers.redis import RedisServer

PAGES = sorted(page.name for page in DOCS.glob("*.md"))


def test_it_builds_without_a_warning(tmp_path: Path) -> None:
    built = subprocess.run(
        [
            *(sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-E"),
            *("-d", tmp_path / "doctrees", DOCS, tmp_path / "html"),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (built.returncode, built.stdout, built.stderr) == (0, "", "")


@pytest.mark.parametrize("page", PAGES)
def test_every_python_snippet_of_a_page_runs(page: str) -> None:
    names_of(page)


def run_pytest(folder: Path) -> None:
    """Run the tests in a folder, which pass."""
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout


def test_the_page_on_backends_runs_the_contract_as_it_tells_its_reader_to(
    tmp_path: Path,
) -> None:
    test = tmp_path / "test_file_backend.py"
    test.write_text("\n".join(blocks("writing-a-backend.md", "python")[:2]))
    run_pytest(tmp_path)


class Step:
    """One ``app.py`` of the tutorial."""

    def __init__(self, number: int) -> None:
        self.module = ModuleType(f"tutorial_{number}")
        run(blocks("tutorial.md", "python")[number - 1], self.module)
        self.app: Flask = self.module.__dict__["app"]
        self.client = self.app.test_client()

    def stop(self, task_id: str, user: str = "abc-123") -> TestResponse:
        url = f"/v1/chat-messages/{task_id}/stop"
        response = self.client.post(url, json={"user": user}, headers=AUTH)
        assert isinstance(response, TestResponse)
        return response


def test_the_tutorial_begins_with_a_stream_that_nothing_stops() -> None:
    with Step(1).client.post("/chat") as answer:
        words = iter(answer.response)
        assert [next(words), next(words)] == [b"1 ", b"2 "]


def test_the_second_step_of_the_tutorial_can_be_stopped() -> None:
    step = Step(2)
    answer = step.client.post("/chat", json={"user": "abc-123"}, headers=AUTH)
    words = iter(answer.response)
    assert next(words) == b"1 "
    task_id = answer.headers["Task-Id"]
    assert step.stop(task_id, user="eve").status_code == 404
    assert step.stop(task_id).headers["Chatstop-Outcome"] == "stopping"
    assert list(words) == []
    wait_until(lambda: step.stop(task_id).headers["Chatstop-Outcome"] == "stopped")


def test_the_third_step_of_the_tutorial_keeps_the_partial_answer() -> None:
    step = Step(3)
    response = step.client.post(
        "/v1/chat-messages", json={"user": "abc-123"}, headers=AUTH
    )
    answer = Answer(response)
    assert answer.first["answer"] == ""
    assert answer.next()["answer"] == "1 "
    step.stop(answer.task_id)
    assert answer.rest()[-1]["metadata"]["end_reason"] == "stopped"
    [kept] = step.module.__dict__["answers"].values()
    assert kept == ("stopped", "1 ")


def test_the_fourth_step_of_the_tutorial_hangs_up_on_a_silent_model(
    silent: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", silent.url)
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    step = Step(4)
    body = {"user": "abc-123", "query": "hello"}
    answer = Answer(step.client.post("/v1/chat-messages", json=body, headers=AUTH))
    assert [answer.next()["answer"] for _ in TOKENS] == TOKENS
    [call] = silent.calls
    assert call.silent.wait(30)
    step.stop(answer.task_id)
    assert answer.rest()[-1]["metadata"]["end_reason"] == "stopped"
    assert call.closed.wait(30)


def test_the_fifth_step_of_the_tutorial_knows_its_user_by_the_session() -> None:
    step = Step(5)
    assert step.client.post("/web/chat-messages").status_code == 401
    step.client.post("/login")
    answer = Answer(step.client.post("/web/chat-messages"))
    url = f"/web/chat-messages/{answer.task_id}/stop"
    assert step.app.test_client().post(url, json={}).status_code == 401
    assert step.client.post(url, json={"user": "eve"}).status_code == 404
    assert step.client.post(url, json={}).status_code == 200
    assert answer.rest()[-1]["metadata"]["end_reason"] == "stopped"


def test_the_sixth_step_of_the_tutorial_runs_in_two_workers(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(blocks("tutorial.md", "python")[5])
    [command] = [
        line
        for code in blocks("tutorial.md", "sh")
        for line in code.splitlines()
        if "gunicorn --workers" in line
    ]
    _, *options, bind, _, app = command.split()
    assert bind == "--bind"
    chdir = ["--chdir", str(tmp_path)]
    with gunicorn(app, tmp_path, *options, *chdir, PYTHONPATH=str(ROOT)) as server:
        readers = [Reader(server) for _ in range(4)]
        for reader in readers:
            task_id = reader.until("1 ")
            assert server.stop(task_id).headers["Chatstop-Outcome"] == "stopping"
            assert reader.rest()[-1]["metadata"]["end_reason"] == "stopped"
    assert (tmp_path / "chatstop.db").exists()


def test_the_test_in_the_tutorial_passes(tmp_path: Path) -> None:
    *_, app, test = blocks("tutorial.md", "python")
    (tmp_path / "app.py").write_text(app)
    (tmp_path / "test_app.py").write_text(test)
    run_pytest(tmp_path)


def test_the_async_source_of_its_page_is_stopped_while_the_model_is_silent(
    silent: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", silent.url)
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    names = names_of("async-sources.md")
    client: FlaskClient = names.app.test_client()
    body = {"user": "abc-123", "query": "hello"}
    answer = Answer(client.post("/v1/chat-messages", json=body, headers=AUTH))
    assert [answer.next()["answer"] for _ in TOKENS] == TOKENS
    assert silent.calls[0].silent.wait(30)
    stop = f"/v1/chat-messages/{answer.task_id}/stop"
    assert client.post(stop, json={"user": "abc-123"}, headers=AUTH).status_code == 200
    assert answer.rest()[-1]["metadata"]["end_reason"] == "stopped"
    assert silent.calls[0].closed.wait(30)


def test_the_history_of_the_page_stays_valid_after_a_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = names_of("inside-a-source.md")
    names.history.clear()
    running, gone = threading.Event(), threading.Event()

    def tool() -> str:
        running.set()
        while not current_task.wait(1.0):
            pass
        current_task.raise_if_stopped()
        return "never"

    def close_open_calls() -> None:
        original()
        gone.set()

    original = names.close_open_calls
    monkeypatch.setattr(names, "run_the_tests", tool)
    monkeypatch.setattr(names, "close_open_calls", close_open_calls)
    client: FlaskClient = names.app.test_client()
    answer = Answer(client.post("/v1/chat-messages", headers=AUTH))
    answer.next()
    assert running.wait(30)
    stop = f"/v1/chat-messages/{answer.task_id}/stop"
    client.post(stop, json={"user": "abc-123"}, headers=AUTH)
    answer.rest()
    assert gone.wait(30)
    called = [m for m in names.history if m.get("tool_calls")]
    results = [m["tool_call_id"] for m in names.history if m["role"] == "tool"]
    assert results == [call["id"] for m in called for call in m["tool_calls"]]


def test_the_test_on_the_page_about_sources_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = names_of("inside-a-source.md")
    monkeypatch.setattr(names, "run_the_tests", lambda: "passed")
    names.test_a_stopped_answer_is_kept()


def test_the_loop_of_the_recipe_is_stopped_and_reports_its_end() -> None:
    module = ModuleType("loop")
    run(blocks("recipes.md", "python")[0], module)
    client: FlaskClient = module.__dict__["app"].test_client()
    assert client.post("/v1/jobs", json={}, headers=AUTH).status_code == 400
    begun = client.post("/v1/jobs", json={"user": "a"}, headers=AUTH)
    stop = f"/v1/chat-messages/{begun.get_json()['task_id']}/stop?wait=10"
    response = client.post(stop, json={"user": "a"}, headers=AUTH)
    assert response.headers["Chatstop-Outcome"] == "stopped"


def run_three_generations() -> None:
    """Have one finish, one fail, and one be stopped; and stop an unknown one."""
    source = Source("One ")

    def pieces(task: GenerationTask) -> Iterator[str]:
        if task.record.owner.user == "bob":
            raise RuntimeError("the model is ill")
        yield from source(task) if task.record.owner.user == "carol" else ["One "]

    chat = Chat(pieces)
    chat.ask().rest()
    chat.ask("bob").rest()
    answer = chat.ask("carol")
    answer.next()
    chat.stop(answer.task_id, "carol")
    answer.rest()
    chat.stop("unknown")
    source.go_on.set()


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_the_prometheus_recipe_counts_generations_and_stops() -> None:
    app: Flask = names_of("recipes.md").app
    names = [
        ("chat_generation_seconds_count", {"reason": "finished"}),
        ("chat_generation_seconds_count", {"reason": "failed"}),
        ("chat_generation_seconds_count", {"reason": "stopped"}),
        ("chat_stops_total", {"outcome": "stopping"}),
        ("chat_stops_total", {"outcome": "missing"}),
    ]
    before = [sample(name, **labels) for name, labels in names]
    run_three_generations()
    after = [sample(name, **labels) for name, labels in names]
    # At least one: what another test has left behind may end meanwhile.
    assert all(b >= a + 1 for a, b in zip(before, after, strict=True))
    page = app.test_client().get("/metrics").text
    for name, labels in names:
        [(label, value)] = labels.items()
        assert f'{name}{{{label}="{value}"}} ' in page


def test_the_prometheus_recipe_counts_the_calls_that_were_cut(silent: Provider) -> None:
    names_of("recipes.md")

    def pieces(task: GenerationTask) -> Iterator[str]:
        url = f"{silent.url}/chat/completions"
        with requests.post(url, stream=True, timeout=60) as reply:
            for piece in reply.iter_content(None):
                yield piece.decode()

    cut = sample("chat_calls_cut_total", reason="stopped")
    chat = Chat(pieces)
    answer = chat.ask()
    answer.next()
    chat.stop(answer.task_id)
    answer.rest()
    assert sample("chat_calls_cut_total", reason="stopped") == cut + 1


def test_the_prometheus_recipe_tells_how_many_generations_run() -> None:
    names_of("recipes.md")
    source = Source("One ")
    running = sample("chat_generations_running")
    answer = Chat(source).ask()
    assert sample("chat_generations_running") == running + 1
    answer.leave()
    assert sample("chat_generations_running") == running
    source.go_on.set()


def test_the_opentelemetry_recipe_makes_a_span_of_each_generation() -> None:
    recipe = names_of("recipes.md")
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracing = TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(tracing)
    metrics.set_meter_provider(MeterProvider([reader]))
    with trace.get_tracer("test").start_as_current_span("request"):
        run_three_generations()
    *generations, parent = exporter.get_finished_spans()
    assert {span.name for span in generations} == {"chat.generation"}
    ends = [dict(span.attributes or {})["chat.end_reason"] for span in generations]
    assert ends == ["finished", "failed", "stopped"]
    assert [span.status.is_ok for span in generations] == [True, False, True]
    assert {span.parent.span_id for span in generations if span.parent} == {
        parent.context.span_id
    }
    assert dict(parent.attributes or {}) == {"chat.stop_outcome": "missing"}
    assert recipe.spans == {}
    data = reader.get_metrics_data()
    assert data is not None
    points = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    outcomes = {dict(point.attributes or {})["outcome"] for point in points}
    assert outcomes == {"stopping", "missing"}


def test_the_acl_rule_on_the_page_on_backends_is_enough(server: RedisServer) -> None:
    [rule] = blocks("backends.md", "text")
    server.ask("ACL", "SETUSER", "app", "on", ">pw", *rule.split())
    backend = RedisBackend(f"redis://app:pw@127.0.0.1:{server.port}/0")
    record = new_record()
    backend.check()
    backend.announce(record)
    with listening(backend, [record]) as bell:
        assert backend.stop(record.task_id, ALICE) == "stopping"
        assert bell.get(timeout=30) == record.task_id
    assert [info.record for info in backend.tasks()] == [record]
    backend.renew([record])
    assert backend.stops(record.worker_id, [record.task_id]) == {record.task_id}
    backend.end(record, EndReason.STOPPED)
    backend.close()


def test_the_keys_that_the_page_on_security_makes_are_let_in() -> None:
    names = names_of("security.md")
    app = Flask("app")
    app.config["CHATSTOP_API_KEYS"] = names.CHATSTOP_API_KEYS
    app.register_blueprint(ChatStop())
    auth = {"Authorization": f"Bearer {names.key}"}
    response = app.test_client().post(
        "/chat-messages/x/stop", json={"user": "alice"}, headers=auth
    )
    assert response.status_code == 404


def test_an_app_that_comes_from_dify_answers_as_it_did() -> None:
    client: FlaskClient = names_of("dify.md").app.test_client()
    auth = {"Authorization": "Bearer app-key"}
    for route in ("chat-messages", "completion-messages", "workflows/tasks"):
        url = f"/v1/{route}/unknown/stop"
        response = client.post(url, json={"user": "abc-123"}, headers=auth)
        assert (response.status_code, response.json) == (200, {"result": "success"})


def test_the_agent_of_the_page_on_dify_sends_whole_events() -> None:
    names = names_of("dify.md")
    client: FlaskClient = names.app.test_client()
    auth = {"Authorization": "Bearer app-key"}
    asked = client.post("/v1/chat-messages", json={"user": "abc-123"}, headers=auth)
    thought, file, message, end = Answer(asked).rest()
    for event in (thought, file, message):
        assert event["task_id"] == end["task_id"]
        assert event["message_id"] == end["message_id"]
    assert end["metadata"]["usage"]["total_price"] == "0.0001"
    assert names.metadata["usage"]["total_tokens"] == 46


def messages() -> Iterator[str]:
    """Give every text in the package, with … for what differs."""
    for path in (ROOT / "flask_chatstop").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"%([sr]|\.0f)", "…", node.value)
            elif isinstance(node, ast.JoinedStr):
                yield "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "…"
                    for part in node.values
                )


def test_every_log_line_of_a_page_is_one_of_the_package() -> None:
    # The two lines of an outage are put together from the name of what is away.
    names = ["the doorbell of stops", "the store of running tasks"]
    known = {
        text.replace("…", name, 1) if text.startswith(("Lost …", "Found …")) else text
        for text in messages()
        for name in names
    }
    lines = [
        line
        for page in ("troubleshooting.md", "model-libraries.md")
        for code in blocks(page, "text")
        for line in code.splitlines()
    ]
    assert len(lines) > 10
    unknown = [
        line
        for line in lines
        if not any(text == line or text.startswith(line.rstrip("…")) for text in known)
    ]
    assert unknown == []


def test_the_page_of_the_api_has_every_answer_of_the_stop_route() -> None:
    app: Flask = names_of("tutorial.md").app
    with app.test_request_context():
        [path] = names_of("tutorial.md").chatstop.openapi()["paths"].values()
    page = (DOCS / "api.md").read_text()
    table = re.findall(r"^\| (\d{3}) \|", page, re.MULTILINE)
    assert set(table) == set(path["post"]["responses"])


def test_the_page_of_the_api_has_every_public_name() -> None:
    page = (DOCS / "api.md").read_text()
    for name in flask_chatstop.__all__:
        assert re.search(rf":: flask_chatstop\.(signals\.)?{name}\b", page), name


def test_every_link_of_the_readme_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", (ROOT / "README.md").read_text())
    assert len(links) > 5
    for page, anchor in links:
        text = (ROOT / (page or "README.md")).read_bytes()
        headings = re.findall(rb"^#+ (.*)", text, re.MULTILINE)
        anchors = [
            re.sub(r"[^\w -]", "", heading.decode().lower()).replace(" ", "-")
            for heading in headings
        ]
        assert not anchor or anchor in anchors, f"{page}#{anchor}"


def test_the_script_of_the_page_on_dify_is_what_its_client_is_tested_with() -> None:
    [line] = blocks("dify.md", "js")
    program = (ROOT / "tests" / "clients" / "node_clients.mjs").read_text()
    assert line.strip().removeprefix("await ") in program

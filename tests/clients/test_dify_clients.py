"""Clients of Dify's API, unchanged, against the example.

Each program of this folder runs once and does all that its clients can do. The tests
read what the clients have got.
"""

import re
from typing import Any

import pytest

from tests.clients.conftest import Run
from tests.clients.site import EVENTS, RESOURCE
from tests.providers.environments import Environment
from tests.support.paths import DOCS, ROOT

NODE_MODULES = ROOT / "tests" / "clients" / "node_modules"
PYTHON = Environment("test-dify", only=())

#: The type of each field of ``metadata.usage``, exactly.
USAGE_TYPES = {
    "prompt_tokens": int,
    "prompt_unit_price": str,
    "prompt_price_unit": str,
    "prompt_price": str,
    "completion_tokens": int,
    "completion_unit_price": str,
    "completion_price_unit": str,
    "completion_price": str,
    "total_tokens": int,
    "total_price": str,
    "currency": str,
    "latency": float,
}


@pytest.fixture(scope="module")
def through_node(printed: Run) -> Any:
    if not NODE_MODULES.exists():
        pytest.skip(f"no {NODE_MODULES}: run .ci/environments")
    return printed("node", "node_clients.mjs")


@pytest.fixture(scope="module")
def through_python(printed: Run) -> Any:
    return printed(PYTHON.python(), "python_clients.py")


@pytest.fixture(params=["dify-client", "dify-oapi2", "dify-client-python"])
def seen(request: pytest.FixtureRequest) -> Any:
    """Return what a client that shows the events has got."""
    if request.param == "dify-client":
        return request.getfixturevalue("through_node")["client"]
    return request.getfixturevalue("through_python")[request.param]


@pytest.fixture
def provided(through_node: Any) -> Any:
    """Return what an app of the AI SDK has got through dify-ai-provider."""
    return through_node["provider"]


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["event"] for event in events]


def check_usage(usage: dict[str, Any]) -> None:
    types = {name: type(value) for name, value in usage.items()}
    # JSON writes 0.0 and 1.0 without a fraction, if JavaScript does it.
    if types["latency"] is int:
        types["latency"] = float
    assert types == USAGE_TYPES


def test_a_client_stops_an_answer_by_the_task_id_of_its_events(seen: Any) -> None:
    stopped = seen["stopped"]
    events = stopped["events"]
    assert kinds(events) == ["message", "message", "message", "message_end"]
    assert [event["answer"] for event in events[:-1]] == ["", "One ", "two"]
    assert stopped["stop"]["result"] == "success"
    assert {event["conversation_id"] for event in events} == {"c-1"}
    check_usage(events[-1]["metadata"]["usage"])


def test_an_open_client_is_told_that_the_answer_was_stopped(seen: Any) -> None:
    end = seen["stopped"]["events"][-1]["metadata"]
    # The models of dify-client-python keep no field that they do not know.
    assert end.get("end_reason") == (
        None if "model" in seen["finished"][0] else "stopped"
    )


def test_a_client_is_told_of_tasks_that_are_not_its_user_s(seen: Any) -> None:
    for refused in (seen["stopped"]["foreign"], seen["unknown"]):
        assert refused in (
            {
                "status": 404,
                "body": {
                    "code": "task_not_found",
                    "message": "There is no such task of this user.",
                    "status": 404,
                },
            },
            {"status": 404, "result": None},
            {"error": "DifyResourceNotFound", "code": "task_not_found"},
        )


def test_a_finished_answer_has_the_figures_of_the_model(seen: Any) -> None:
    assert kinds(seen["finished"]) == ["message", "message", "message", "message_end"]
    usage = seen["finished"][-1]["metadata"]["usage"]
    check_usage(usage)
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (3, 2)


def test_a_failed_answer_is_an_error_without_the_model_s_words(seen: Any) -> None:
    *_, error = seen["failed"]
    assert kinds(seen["failed"]) == ["message", "error"]
    assert (error["status"], error["code"]) == (400, "completion_request_error")
    assert "secret" not in str(seen["failed"])


def test_every_event_of_an_agent_arrives_and_a_ping_is_passed_over(seen: Any) -> None:
    first, *between, end = seen["agent"]
    assert kinds([first, end]) == ["message", "message_end"]
    assert kinds(between) == [event["event"] for event in EVENTS]
    for got, sent in zip(between, EVENTS, strict=True):
        assert {name: got[name] for name in sent} == sent
        assert (got["task_id"], got["message_id"]) == (
            first["task_id"],
            first["message_id"],
        )
    check_usage(end["metadata"]["usage"])
    assert end["metadata"]["retriever_resources"] == [RESOURCE]
    usage = end["metadata"]["usage"]
    assert (usage["total_price"], usage["prompt_price"]) == ("0.0000001", "0.0000025")


def test_a_typed_client_has_a_model_of_its_own_for_every_event(
    through_python: Any,
) -> None:
    events = through_python["dify-client-python"]["agent"]
    models = [event["model"] for event in events]
    assert models == [
        "MessageStreamResponse",
        "AgentThoughtStreamResponse",
        "AgentMessageStreamResponse",
        "MessageFileStreamResponse",
        "TtsMessageStreamResponse",
        "TtsMessageStreamResponse",
        "MessageReplaceStreamResponse",
        "MessageEndStreamResponse",
    ]


def test_a_blocking_answer_has_what_typed_clients_insist_on(seen: Any) -> None:
    blocking = seen["blocking"]
    assert (blocking["event"], blocking["mode"]) == ("message", "chat")
    assert blocking["answer"] == "One two"
    check_usage(blocking["metadata"]["usage"])
    assert blocking["metadata"]["usage"]["total_tokens"] == 5


def text_of(parts: list[dict[str, Any]]) -> str:
    return "".join(part.get("delta", "") for part in parts)


def test_the_ai_sdk_s_provider_reads_every_answer(provided: Any) -> None:
    for name, text in [
        ("stopped", "One two"),
        ("finished", "One two"),
        ("agent", "One chair.Two chairs."),
    ]:
        parts = provided[name]
        assert [part for part in parts if part["type"] == "error"] == []
        assert text_of(parts) == text
        assert parts[-1]["type"] == "finish"
    assert provided["finished"][-1]["usage"]["totalTokens"] == 5
    assert provided["blocking"]["content"] == [{"type": "text", "text": "One two"}]
    [error] = provided["failed"]
    assert error["error"] == (
        "Error: Dify error (completion_request_error):"
        " The answer could not be completed."
    )


def test_the_page_on_dify_names_each_client_and_its_version(
    through_node: Any, through_python: Any
) -> None:
    page = (DOCS / "dify.md").read_text()
    found = dict(re.findall(r"^\| (?:npm|PyPI) `([\w-]+)` ([\d.]+) \| CI", page, re.M))
    assert found == {
        "dify-client": through_node["client"]["version"],
        "dify-ai-provider": through_node["provider"]["version"],
        **{name: each["version"] for name, each in through_python.items()},
    }
    # What the page says of the stop of the one on npm.
    assert not through_node["client"]["has_stop"]

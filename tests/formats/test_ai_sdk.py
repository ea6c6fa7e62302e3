"""The AI SDK reads what UIMessageStream sends, as ``useChat`` does.

``Chat`` is what ``useChat`` is a hook for. All answers are read by one Node process.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from flask import redirect, request

from flask_chatstop import GenerationTask
from flask_chatstop.events import MemoryEventLog
from flask_chatstop.formats import UIMessageStream
from tests.formats.reader_app import Pinged, ReaderApp, failing, whole
from tests.support.node import run_node
from tests.support.paths import ROOT

pinged = Pinged()
GO = {"type": "data-go", "data": {}, "transient": True}
WEATHER = {"type": "data-weather", "id": "w", "data": {"city": "Bonn"}}


def with_parts(task: GenerationTask) -> Iterator[Any]:
    yield {"type": "reasoning-start", "id": "r"}
    yield {"type": "reasoning-delta", "id": "r", "delta": "Hm."}
    yield {"type": "reasoning-end", "id": "r"}
    yield "One "
    yield GO
    yield "two"
    call = {"toolCallId": "t", "toolName": "search", "dynamic": True}
    yield {"type": "tool-input-available", **call, "input": {"city": "Bonn"}}
    output = {"toolCallId": "t", "output": "Rain", "dynamic": True}
    yield {"type": "tool-output-available", **output}
    yield WEATHER
    yield {"type": "source-url", "sourceId": "s", "url": "https://example.com/"}
    yield "three"


def silent(task: GenerationTask) -> Iterator[Any]:
    yield "One "
    yield GO
    assert task.wait(30), "nobody stopped it"


def add_resume(app: ReaderApp) -> ReaderApp:
    """Serve what ``useChat({resume: true})`` asks for."""

    @app.app.get("/api/chat/<name>/stream")
    def resume(name: str) -> Any:
        task = app.by_name.get(name)
        if task is None or task.end_reason is not None:
            return "", 204
        return redirect(f"/v1/chat-messages/{task.id}/events?user=alice")

    return app


@pytest.fixture(scope="module")
def app() -> ReaderApp:
    parts = pinged.counting(UIMessageStream)

    def make_format() -> Any:
        last = request.get_json()["messages"][-1]
        is_continued = last["role"] == "assistant"
        return parts(message_id=last["id"] if is_continued else None)  # type: ignore[call-arg]

    app = ReaderApp(
        "/api/chat",
        make_format,
        {
            "read": with_parts,
            "whole": whole,
            "parts": with_parts,
            "pausing": pinged.pausing,
            "stopped": silent,
            "left": silent,
            "failing": failing,
            "continued": whole,
            "resumed": silent,
        },
        config={"CHATSTOP_EVENTS": "memory://"},
        heartbeat=0.05,
    )
    return add_resume(app)


@pytest.fixture(scope="module")
def full() -> ReaderApp:
    """An app that has no room to keep an answer."""
    app = ReaderApp(
        "/api/chat",
        UIMessageStream,
        {"lost": silent},
        config={"CHATSTOP_EVENTS": MemoryEventLog(max_bytes=1)},
    )
    return add_resume(app)


@pytest.fixture(scope="module")
def seen(app: ReaderApp, full: ReaderApp) -> Any:
    """What the AI SDK has made of each answer."""
    script = ROOT / "tests" / "formats" / "read_ui_messages.mjs"
    with app.served() as url, full.served() as full_url:
        return run_node(script, url, full_url)


def parts_of(message: Any) -> list[tuple[str, str | None]]:
    return [(part["type"], part.get("text")) for part in message["parts"]]


def test_its_schema_knows_every_part_that_is_sent(seen: Any) -> None:
    types = seen["read"]["types"]
    assert (types[0], types[-2:]) == ("start", ["message-metadata", "finish"])
    assert types.count("text-start") == types.count("text-end") == 2


def test_a_page_shows_a_whole_answer(seen: Any, app: ReaderApp) -> None:
    chat = seen["whole"]
    asked, answer = chat["messages"]
    assert (chat["status"], asked["role"]) == ("ready", "user")
    assert parts_of(answer) == [("text", "One two")]
    assert answer["parts"][0]["state"] == "done"
    assert answer["metadata"] == {
        "taskId": app.by_name["whole"].id,
        "endReason": "finished",
    }
    assert chat["finish"] == {
        "isAbort": False,
        "isDisconnect": False,
        "isError": False,
    }


def test_a_page_shows_reasoning_tools_data_and_sources(seen: Any) -> None:
    chat = seen["parts"]
    assert parts_of(chat["messages"][1]) == [
        ("reasoning", "Hm."),
        ("text", "One two"),
        ("dynamic-tool", None),
        ("data-weather", None),
        ("source-url", None),
        ("text", "three"),
    ]
    assert chat["messages"][1]["parts"][2]["output"] == "Rain"
    assert chat["data"] == [GO, WEATHER]


def test_a_ping_is_no_part(seen: Any) -> None:
    assert parts_of(seen["pausing"]["messages"][1]) == [("text", "One two")]


def test_a_stop_on_the_server_ends_the_answer_in_the_page(
    seen: Any, app: ReaderApp
) -> None:
    chat = seen["stopped"]
    answer = chat["messages"][1]
    assert (chat["status"], parts_of(answer)) == ("ready", [("text", "One ")])
    assert answer["metadata"]["endReason"] == "stopped"
    assert answer["parts"][0]["state"] == "done"
    assert app.end_of("stopped").reason == "stopped"
    assert app.end_of("stopped").text == "One "
    # The library calls only an answer aborted that it has aborted itself.
    assert chat["finish"]["isAbort"] is False


def test_a_page_that_resumes_gets_the_whole_answer_and_can_stop_it(
    seen: Any, app: ReaderApp
) -> None:
    chat = seen["resumed"]
    assert chat["status"] == "ready"
    assert [message["role"] for message in chat["messages"]] == ["user", "assistant"]
    answer = chat["messages"][1]
    assert answer == chat["first"]
    assert parts_of(answer) == [("text", "One ")]
    assert answer["metadata"]["endReason"] == "stopped"
    assert app.end_of("resumed").reason == "stopped"
    # Once it is over, it is a message of the history.
    assert chat["later"] == chat["messages"]


def test_a_page_that_resumes_after_a_loss_can_stop_the_rest(
    seen: Any, full: ReaderApp
) -> None:
    chat = seen["lost"]
    assert (chat["status"], chat["error"]) == ("ready", None)
    answer = chat["messages"][1]
    assert answer["id"] == chat["first"]["id"]
    assert answer["metadata"] == chat["first"]["metadata"]
    assert answer["metadata"]["endReason"] == "stopped"
    assert parts_of(answer) == [("text", "")]
    assert full.end_of("lost").text == "One "


def test_the_stop_of_the_library_is_a_client_that_leaves(
    seen: Any, app: ReaderApp
) -> None:
    chat = seen["left"]
    answer = chat["messages"][1]
    assert (chat["status"], chat["finish"]["isAbort"]) == ("ready", True)
    assert "endReason" not in answer["metadata"]
    assert (app.end_of("left").reason, app.end_of("left").text) == (
        "disconnected",
        "One ",
    )


def test_a_page_is_told_of_a_failure(seen: Any) -> None:
    chat = seen["failing"]
    answer = chat["messages"][1]
    assert (chat["status"], chat["error"]) == (
        "error",
        "The answer could not be completed.",
    )
    assert parts_of(answer) == [("text", "One ")]
    assert answer["metadata"]["endReason"] == "failed"


def test_an_answer_that_goes_on_with_a_message_is_not_shown_twice(seen: Any) -> None:
    _, answer = seen["continued"]["messages"]
    assert answer["id"] == "a1"
    assert parts_of(answer) == [("text", "Zero "), ("text", "One two")]

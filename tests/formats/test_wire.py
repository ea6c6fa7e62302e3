"""What each format sends, byte for byte."""

import json
import types
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest

from flask_chatstop import GenerationTask
from flask_chatstop.formats import (
    DifyEvents,
    JSONLines,
    OpenAIChunks,
    PlainText,
    ServerSentEvents,
    UIMessageStream,
    dify_usage,
)
from tests.formats.format_app import FormatApp
from tests.support.chat import AUTH


def data_of(body: str) -> list[Any]:
    """Return the data of server-sent events that is JSON, in order."""
    lines = [line[6:] for line in body.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def sent_pieces(*pieces: Any) -> Any:
    def source(task: GenerationTask) -> Iterable[Any]:
        return pieces

    return source


def test_plain_text_is_the_answer_and_nothing_else() -> None:
    response = FormatApp(PlainText).answer()
    assert response.text == "One two"
    assert response.mimetype == "text/plain"


def test_plain_text_may_say_that_it_was_stopped() -> None:
    app = FormatApp(lambda: PlainText(stopped=" [stopped]"), lambda task: stop(task))

    def stop(task: GenerationTask) -> Iterable[str]:
        task.stop()
        return ["One"]

    assert app.answer().text == " [stopped]"


def test_json_lines_are_an_object_each() -> None:
    app = FormatApp(JSONLines, sent_pieces("One\n", {"type": "tool", "name": "search"}))
    response = app.answer()
    assert [json.loads(line) for line in response.text.splitlines()] == [
        {"type": "begin", "task_id": app.tasks[0].id},
        {"type": "text", "text": "One\n"},
        {"type": "tool", "name": "search"},
        {"type": "end", "end_reason": "finished"},
    ]
    assert response.mimetype == "application/jsonl"


def test_server_sent_events_have_ids_and_a_last_event() -> None:
    own = {"event": "tool", "name": "search"}
    app = FormatApp(ServerSentEvents, sent_pieces("One\n", own, {"cost": 3}))
    response = app.answer()
    assert response.mimetype == "text/event-stream"
    assert response.text == (
        "retry: 1000\n"
        f'event: begin\nid: 1\ndata: {{"task_id":"{app.tasks[0].id}"}}\n\n'
        'id: 2\ndata: {"text":"One\\n"}\n\n'
        'event: tool\nid: 3\ndata: {"name":"search"}\n\n'
        'id: 4\ndata: {"cost":3}\n\n'
        'event: end\nid: 5\ndata: {"end_reason":"finished"}\n\n'
    )


def test_a_browser_that_comes_back_is_sent_away_before_anything_is_asked() -> None:
    asked = []

    def source(task: GenerationTask) -> Iterable[str]:
        asked.append(task)
        return ["One"]

    app = FormatApp(ServerSentEvents, source)

    @app.app.errorhandler(Exception)
    def hide(error: Exception) -> tuple[str, int]:
        return "an error page of the app's", 500

    for method in ("GET", "POST"):
        response = app.client.open(
            "/ask", method=method, headers={**AUTH, "Last-Event-ID": "2"}
        )
        assert (response.status_code, response.data) == (204, b"")
    assert asked == app.tasks == []


@pytest.mark.parametrize("kind", ["begin", "ping", "lost", "end", None])
def test_a_json_line_that_a_client_would_take_for_ours_is_refused(
    kind: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    FormatApp(JSONLines, sent_pieces({"type": kind})).answer()
    assert "none of begin, ping, lost, end" in caplog.text


@pytest.mark.parametrize(
    ("make_format", "piece"),
    [
        (JSONLines, {"type": "text", "text": "One ", "lang": "en"}),
        (ServerSentEvents, {"text": "One ", "lang": "en"}),
        (OpenAIChunks, {"content": "One "}),
        (UIMessageStream, {"type": "text-delta", "id": "1", "delta": "One "}),
        (DifyEvents, {"event": "message", "answer": "One "}),
    ],
)
def test_what_a_client_reads_as_text_is_the_text_that_is_saved(
    make_format: Any, piece: dict[str, str]
) -> None:
    other = types.MappingProxyType({**piece, "id": "1"})
    app = FormatApp(make_format, sent_pieces(piece, other, "two"))
    app.answer()
    assert (app.end.reason, app.end.text) == ("finished", "One One two")


@pytest.mark.parametrize("name", ["begin", "end", "error", "open"])
def test_an_event_that_a_page_could_not_tell_from_ours_is_refused(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    FormatApp(ServerSentEvents, sent_pieces({"event": name})).answer()
    assert f"'{name}' is not a name for an event of your own" in caplog.text


def test_openai_chunks_bear_the_task_id() -> None:
    delta = {"tool_calls": [{"index": 0, "function": {"name": "search"}}]}
    app = FormatApp(lambda: OpenAIChunks(model="m"), sent_pieces("One", delta))
    body = app.answer().text
    assert body.endswith("data: [DONE]\n\n")
    first, text, tools, last = data_of(body)
    assert {chunk["id"] for chunk in (first, text, tools, last)} == {app.tasks[0].id}
    assert first["object"] == "chat.completion.chunk" and first["model"] == "m"
    assert first["choices"] == [
        {
            "index": 0,
            "delta": {"role": "assistant", "content": ""},
            "finish_reason": None,
        }
    ]
    assert text["choices"][0]["delta"] == {"content": "One"}
    assert tools["choices"][0]["delta"] == delta
    [choice] = last["choices"]
    assert choice == {"index": 0, "delta": {}, "finish_reason": "tool_calls"}
    assert last["chatstop"] == {"end_reason": "finished"}


def test_openai_chunks_end_with_the_usage_if_asked() -> None:
    def source(task: GenerationTask) -> Iterable[str]:
        task.report_usage({"prompt_tokens": 1, "completion_tokens": 2})
        return ["One"]

    app = FormatApp(lambda: OpenAIChunks(include_usage=True), source)
    usage = data_of(app.answer().text)[-1]
    assert usage["choices"] == []
    assert usage["usage"] == {
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "total_tokens": 3,
    }


def test_a_ui_message_has_a_text_part_on_each_side_of_another_part() -> None:
    part = {"type": "data-weather", "data": {"city": "Bonn"}}
    app = FormatApp(
        lambda: UIMessageStream(message_id="m-1"), sent_pieces("One", part, "two")
    )
    response = app.answer()
    assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert data_of(response.text) == [
        {
            "type": "start",
            "messageId": "m-1",
            "messageMetadata": {"taskId": app.tasks[0].id},
        },
        {"type": "text-start", "id": "text"},
        {"type": "text-delta", "id": "text", "delta": "One"},
        {"type": "text-end", "id": "text"},
        part,
        {"type": "text-start", "id": "text"},
        {"type": "text-delta", "id": "text", "delta": "two"},
        {"type": "text-end", "id": "text"},
        {"type": "message-metadata", "messageMetadata": {"endReason": "finished"}},
        {"type": "finish"},
    ]
    assert app.end.message_id == "m-1"


def test_text_goes_on_beside_what_leaves_no_part_in_a_ui_message() -> None:
    parts = [
        {"type": "data-progress", "data": 50, "transient": True},
        {"type": "message-metadata", "messageMetadata": {"cost": 3}},
    ]
    app = FormatApp(UIMessageStream, sent_pieces("One ", *parts, "two"))
    sent = data_of(app.answer().text)
    assert [part["type"] for part in sent].count("text-start") == 1


@pytest.mark.parametrize("kind", ["start", "finish", "abort", "error"])
def test_a_part_that_would_begin_or_end_a_ui_message_is_refused(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    FormatApp(UIMessageStream, sent_pieces({"type": kind})).answer()
    assert "none of start, finish, abort, error" in caplog.text


def test_a_piece_with_an_event_of_difys_is_sent_with_the_ids() -> None:
    thought = {"event": "agent_thought", "id": "t-1", "thought": "Search.", "tool": ""}
    app = FormatApp(
        lambda: DifyEvents(message_id="m-1", conversation_id="c-1"),
        sent_pieces(thought, {"event": "agent_message", "answer": "One "}, "two"),
    )
    events = data_of(app.answer().text)
    ids = {
        "task_id": app.tasks[0].id,
        "message_id": "m-1",
        "conversation_id": "c-1",
        "created_at": events[0]["created_at"],
    }
    assert events[1] == {**ids, **thought}
    assert events[2] == {
        **ids,
        "id": "m-1",
        "event": "agent_message",
        "answer": "One ",
    }
    assert app.end.text == "One two"


def test_a_replaced_message_is_the_text_that_is_saved() -> None:
    replace = {"event": "message_replace", "answer": "I cannot say."}
    app = FormatApp(DifyEvents, sent_pieces("A secret", replace, " Sorry."))
    app.answer()
    assert app.end.text == "I cannot say. Sorry."


def test_metadata_that_is_no_mapping_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="give it a dict"):
        DifyEvents(metadata=["a"])  # type: ignore[arg-type]


def test_difys_usage_is_what_is_known() -> None:
    def source(task: GenerationTask) -> Iterable[str]:
        task.report_usage({"input_tokens": 3, "output_tokens": 4, "cache": 5})
        return ["One"]

    given = {"usage": {"total_price": 0.25, "currency": "EUR"}}
    app = FormatApp(lambda: DifyEvents(metadata=given), source)
    usage = data_of(app.answer().text)[-1]["metadata"]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (3, 4)
    assert (usage["total_tokens"], usage["total_price"]) == (7, "0.25")
    assert (usage["currency"], usage["prompt_price"]) == ("EUR", "0")
    assert len(usage) == 12


def test_difys_usage_is_of_difys_types_whatever_the_app_has() -> None:
    usage = dify_usage(
        {
            "input_tokens": 3,
            "output_tokens": 4,
            "prompt_price": 0.0000025,
            "completion_price": Decimal("1E-7"),
            "total_price": "0.0000026",
            "completion_price_unit": None,
            "total_tokens": "many",
            "currency": None,
            "cached": 5,
        },
        latency=1.23456,
    )
    assert usage == {
        "prompt_tokens": 3,
        "prompt_unit_price": "0",
        "prompt_price_unit": "0",
        "prompt_price": "0.0000025",
        "completion_tokens": 4,
        "completion_unit_price": "0",
        "completion_price_unit": "0",
        "completion_price": "0.0000001",
        "total_tokens": 7,
        "total_price": "0.0000026",
        "currency": "USD",
        "latency": 1.235,
    }

"""What every format does, whatever it sends."""

import json
import math
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

import anthropic
import pytest
from flask import Flask, request

from flask_chatstop import (
    ChatStop,
    ConfigurationError,
    GenerationEnd,
    GenerationTask,
    current_task,
    stream_response,
)
from flask_chatstop.formats import (
    DifyEvents,
    JSONLines,
    OpenAIChunks,
    PlainText,
    ServerSentEvents,
    StreamFormat,
    UIMessageStream,
)
from tests.formats.format_app import FormatApp
from tests.support.chat import AUTH, KEYS, Source

FORMATS = [
    DifyEvents,
    JSONLines,
    OpenAIChunks,
    PlainText,
    ServerSentEvents,
    UIMessageStream,
]

each_format = pytest.mark.parametrize("make_format", FORMATS)
MakeFormat = Callable[[], StreamFormat]


def fail(task: GenerationTask) -> Iterator[str]:
    yield "One "
    raise LookupError("secret detail")


def fail_to_save(end: GenerationEnd) -> None:
    raise OSError("the disk is full")


@each_format
def test_the_text_and_the_end_are_told(make_format: MakeFormat) -> None:
    app = FormatApp(make_format)
    assert app.answer().status_code == 200
    assert (app.end.reason, app.end.text) == ("finished", "One two")
    assert (app.end.usage.chunks, app.end.usage.characters) == (2, 7)


@each_format
def test_a_client_finds_the_task_id_in_a_header(make_format: MakeFormat) -> None:
    app = FormatApp(make_format)
    assert app.answer().headers["Chatstop-Task-Id"] == app.tasks[0].id


def test_a_task_id_that_no_header_can_carry_is_quoted() -> None:
    app = FormatApp(PlainText)

    @app.app.post("/odd")
    @app.chatstop.login_required
    def odd() -> Any:
        task = app.chatstop.start(user="alice", task_id="a\nb: é 😀")
        return stream_response(task, ["One"], format=PlainText())

    quoted = app.client.post("/odd", headers=AUTH).headers["Chatstop-Task-Id"]
    assert quoted.isascii() and " " not in quoted
    assert unquote(quoted) == "a\nb: é 😀"


@each_format
def test_a_stop_ends_it_and_the_client_can_tell(make_format: MakeFormat) -> None:
    source = Source("One ")
    app = FormatApp(make_format, source)
    reading = app.begin()
    reading.read_until(b"One")
    app.stop(app.tasks[0].id)
    last = reading.rest()
    assert (app.end.reason, app.end.text) == ("stopped", "One ")
    assert make_format is PlainText or b"stopped" in last
    source.go_on.set()


@each_format
def test_a_client_that_leaves_is_noticed(make_format: MakeFormat) -> None:
    source = Source("One ")
    app = FormatApp(make_format, source)
    reading = app.begin()
    reading.next()
    reading.response.close()
    assert app.end.reason == "disconnected"
    source.go_on.set()


@each_format
def test_a_failure_is_told_without_its_text(
    make_format: MakeFormat, caplog: pytest.LogCaptureFixture
) -> None:
    app = FormatApp(make_format, fail)
    body = app.answer().text
    assert "The answer could not be completed." in body
    assert "secret detail" not in body and "secret detail" in caplog.text
    assert (app.end.reason, app.end.text) == ("failed", "One ")


@each_format
def test_an_answer_that_was_not_saved_says_so(make_format: MakeFormat) -> None:
    app = FormatApp(make_format, on_end=fail_to_save)
    body = app.answer().text
    # Plain text has no place for it.
    assert ('"saved":false' in body) is (make_format is not PlainText)


@each_format
def test_an_answer_that_failed_and_was_not_saved_says_so(
    make_format: MakeFormat,
) -> None:
    body = FormatApp(make_format, fail, on_end=fail_to_save).answer().text
    assert ('"saved":false' in body) is (make_format is not PlainText)


@each_format
def test_a_saved_answer_says_nothing_of_it(make_format: MakeFormat) -> None:
    assert "saved" not in FormatApp(make_format).answer().text


@each_format
def test_silence_is_filled_with_what_a_client_passes_over(
    make_format: MakeFormat,
) -> None:
    source = Source("One ")
    app = FormatApp(make_format, source, heartbeat=0.01)
    reading = app.begin()
    reading.read_until(b"One")
    if make_format is not PlainText:
        ping = reading.next()
        assert b"ping" in ping and b"data:" not in ping
    source.go_on.set()
    assert b"last" in reading.rest()
    assert app.end.text == "One last"


@each_format
def test_a_piece_of_an_unknown_kind_is_a_failure_that_names_it(
    make_format: MakeFormat, caplog: pytest.LogCaptureFixture
) -> None:
    app = FormatApp(make_format, lambda _: ["One ", {7}])
    assert "The answer could not be completed." in app.answer().text
    assert "set" in caplog.text
    assert app.end.text == "One "


@each_format
def test_half_a_surrogate_pair_in_a_piece_reaches_the_client_whole(
    make_format: MakeFormat,
) -> None:
    app = FormatApp(make_format, lambda _: ["\ud83d", "\ude00", " half \ud83d"])
    body = app.answer().data
    body.decode("utf-8")  # is valid
    if make_format is PlainText:
        assert body.decode() == "😀 half \ufffd"
    assert app.end.text == "😀 half \ufffd"


def test_an_object_of_a_format_is_for_one_answer() -> None:
    shared = PlainText()
    app = FormatApp(lambda: shared)
    app.app.testing = True
    app.answer()
    with pytest.raises(ConfigurationError, match="make a new one for each answer"):
        app.answer()


def test_a_class_in_the_place_of_a_format_is_refused() -> None:
    app = FormatApp(lambda: PlainText)  # type: ignore[arg-type,return-value]
    app.app.testing = True
    with pytest.raises(TypeError, match="give it an object like DifyEvents"):
        app.answer()


def test_a_callback_that_takes_no_argument_is_refused_when_it_is_given() -> None:
    def save() -> None:
        """Save, without knowing what."""

    app = FormatApp(PlainText, on_end=save)
    app.app.testing = True
    with pytest.raises(TypeError, match=r"on_end is called with one argument, which"):
        app.answer()


class Reversed(StreamFormat):
    """A format of an app's own, whose chunks are lists of letters."""

    mimetype = "text/x-reversed"

    def begin(self) -> bytes:
        return f"{self.task.id}:".encode()

    def chunk(self, chunk: list[str]) -> bytes:
        return "".join(reversed(chunk)).encode()

    def collect(self, chunk: Any, answer: Any) -> None:
        answer.text.add("".join(chunk))

    def end(self, end: GenerationEnd) -> bytes:
        return f"|{end.reason}".encode()


def test_an_app_writes_its_own_format() -> None:
    app = FormatApp(Reversed, lambda _: [["a", "b"], ["c", "d"]])
    response = app.answer()
    assert response.text == f"{app.tasks[0].id}:badc|finished"
    assert response.mimetype == "text/x-reversed"
    assert app.end.text == "abcd"


class Broken(Reversed):
    """One that fails where it ends an answer."""

    def end(self, end: GenerationEnd) -> bytes:
        raise ZeroDivisionError


def test_a_format_that_fails_at_the_end_is_logged_and_changes_no_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = FormatApp(Broken, lambda _: [["a"]])
    assert app.answer().text.endswith(":a")
    assert "ZeroDivisionError" in caplog.text
    assert app.end.reason == "finished"


class Partial(StreamFormat):
    """One that has nothing to say about most of what it is told."""

    def begin(self) -> Any:
        return None

    def chunk(self, chunk: Any) -> Any:
        if chunk != "silent":
            return chunk.encode()

    def ping(self) -> Any:
        return None

    def end(self, end: GenerationEnd) -> Any:
        return None


def test_a_format_that_returns_none_sends_nothing_and_goes_on() -> None:
    app = FormatApp(Partial, lambda _: ["One ", "silent", "two"])
    assert app.answer().text == "One two"
    assert (app.end.reason, app.end.text) == ("finished", "One silenttwo")


class Text(Partial):
    """One that returns text in place of bytes."""

    def chunk(self, chunk: Any) -> Any:
        return chunk


def test_a_format_that_returns_no_bytes_fails_with_advice() -> None:
    app = FormatApp(Text)
    app.answer()
    assert app.end.reason == "failed"
    assert str(app.end.error) == "A format returned 'One '; it must return bytes."


def test_a_source_reports_its_usage() -> None:
    def chunks(task: GenerationTask) -> Iterator[str]:
        current_task.report_usage({"input_tokens": 12})
        yield "One"
        current_task.report_usage({"output_tokens": 34})

    app = FormatApp(JSONLines, chunks)
    app.answer()
    usage = app.end.usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (12, 34)
    assert (usage.total_tokens, usage.is_estimate) == (46, False)


def test_a_later_report_of_none_replaces_no_figure() -> None:
    first = anthropic.types.Usage(input_tokens=12, output_tokens=1)
    last = anthropic.types.MessageDeltaUsage(output_tokens=34)
    assert last.input_tokens is None

    def chunks(task: GenerationTask) -> Iterator[str]:
        task.report_usage(first)
        yield "One"
        task.report_usage(last)
        task.report_usage(None)  # as most of OpenAI's chunks have it

    app = FormatApp(JSONLines, chunks)
    app.answer()
    usage = app.end.usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (12, 34)


@pytest.mark.parametrize(
    "reported",
    [
        {"promptTokenCount": 12, "candidatesTokenCount": 34, "totalTokenCount": 46},
        {"inputTokens": 12, "outputTokens": 34, "totalTokens": 46},
        {"prompt_tokens": 12.0, "completion_tokens": 34.0},
        {"prompt_tokens": True, "input_tokens": 12, "output_tokens": 34},
        {"prompt_tokens": math.nan, "input_tokens": 12, "output_tokens": 34},
    ],
)
def test_figures_are_found_by_the_names_and_in_the_numbers_of_each_provider(
    reported: dict[str, object],
) -> None:
    def chunks(task: GenerationTask) -> Iterator[str]:
        task.report_usage(reported)
        yield "One"

    app = FormatApp(JSONLines, chunks)
    app.answer()
    usage = app.end.usage
    figures = (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
    assert figures == (12, 34, 46)


def test_usage_of_a_stopped_answer_says_that_it_is_an_estimate() -> None:
    source = Source("One ", "two ")
    app = FormatApp(JSONLines, source)
    reading = app.begin()
    reading.read_until(b"two ")
    app.stop(app.tasks[0].id)
    reading.rest()
    usage = app.end.usage
    assert usage.is_estimate
    assert (usage.completion_tokens, usage.characters, usage.chunks) == (None, 8, 2)
    source.go_on.set()


def test_usage_without_figures_is_refused() -> None:
    app = FormatApp(JSONLines)
    app.answer()
    with pytest.raises(TypeError, match="A object has no token figures"):
        app.tasks[0].report_usage(object())


def test_a_view_that_a_stop_has_left_is_answered_in_the_format_of_the_app() -> None:
    app = Flask("app")
    app.config["CHATSTOP_API_KEYS"] = KEYS
    chatstop = ChatStop(format=JSONLines)
    app.register_blueprint(chatstop)

    @app.post("/ask")
    @chatstop.login_required
    def ask() -> Any:
        task = chatstop.start(user="alice")
        if request.args:
            task.stop()
            task.raise_if_stopped()
        return stream_response(task, ["One"])

    client = app.test_client()
    whole = client.post("/ask", headers=AUTH).text.splitlines()
    assert json.loads(whole[1]) == {"type": "text", "text": "One"}
    response = client.post("/ask?stopped=1", headers=AUTH)
    assert response.mimetype == "application/jsonl"
    begin, end = map(json.loads, response.text.splitlines())
    assert begin["type"] == "begin"
    assert end == {"type": "end", "end_reason": "stopped"}


def test_a_format_object_is_refused_where_a_class_is_needed() -> None:
    with pytest.raises(ConfigurationError, match="give it a class, like PlainText"):
        ChatStop(format=JSONLines())  # type: ignore[arg-type]

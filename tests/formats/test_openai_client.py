"""The openai library reads what OpenAIChunks sends."""

from collections.abc import Iterator

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from flask_chatstop import GenerationTask
from flask_chatstop.formats import OpenAIChunks
from tests.formats.reader_app import Pinged, ReaderApp, failing, silent, whole
from tests.support.node import run_node
from tests.support.paths import ROOT

pinged = Pinged()


def calling(task: GenerationTask) -> Iterator[dict[str, object]]:
    function = {"name": "search", "arguments": ""}
    call = {"index": 0, "id": "call-1", "type": "function", "function": function}
    yield {"tool_calls": [call]}
    for piece in ['{"city":', '"Bonn"}']:
        yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}


@pytest.fixture(scope="module")
def app() -> ReaderApp:
    answers = {
        "whole": whole,
        "failing": failing,
        "silent": silent,
        "node": silent,
        "pausing": pinged.pausing,
        "calling": calling,
    }
    chunks = pinged.counting(OpenAIChunks)
    return ReaderApp(
        "/v1/chat/completions",
        lambda: chunks(model="m", include_usage=True),  # type: ignore[call-arg]
        answers,  # type: ignore[arg-type]
        heartbeat=0.05,
    )


@pytest.fixture(scope="module")
def url(app: ReaderApp) -> Iterator[str]:
    with app.served() as url:
        yield f"{url}/v1"


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="demo-key", base_url=url, max_retries=0) as client:
        yield client


def ask(client: openai.OpenAI, model: str) -> Iterator[ChatCompletionChunk]:
    return iter(
        client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "Count"}], stream=True
        )
    )


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    return "".join(delta.content or "" for delta in deltas)


def test_a_program_reads_the_whole_answer_and_its_usage(
    client: openai.OpenAI, app: ReaderApp
) -> None:
    *chunks, last, usage = ask(client, "whole")
    assert text_of(chunks) == "One two"
    assert last.choices[0].finish_reason == "stop"
    assert last.model_extra == {"chatstop": {"end_reason": "finished"}}
    assert usage.usage is not None and usage.choices == []
    assert (usage.usage.prompt_tokens, usage.usage.total_tokens) == (3, 7)
    assert {chunk.id for chunk in (*chunks, last, usage)} == {app.by_name["whole"].id}
    assert {chunk.model for chunk in chunks} == {"m"}


def test_a_program_that_stops_an_answer_can_tell_that_it_was_stopped(
    client: openai.OpenAI, app: ReaderApp
) -> None:
    chunks = ask(client, "silent")
    task_id = next(chunks).id
    assert text_of([next(chunks)]) == "One "
    client.post(
        f"/chat-messages/{task_id}/stop", cast_to=object, body={"user": "alice"}
    )
    [last] = chunks  # and no usage of 0 tokens
    assert last.choices[0].finish_reason == "stop"
    assert last.model_extra == {"chatstop": {"end_reason": "stopped"}}
    assert (app.end_of("silent").reason, app.end_of("silent").text) == (
        "stopped",
        "One ",
    )


def test_a_program_is_told_of_a_failure(client: openai.OpenAI) -> None:
    chunks = ask(client, "failing")
    with pytest.raises(openai.APIError, match="could not be completed") as raised:
        list(chunks)
    assert raised.value.type == "server_error"


def test_a_ping_is_no_chunk(client: openai.OpenAI) -> None:
    chunks = list(ask(client, "pausing"))
    assert text_of(chunks) == "One two"
    assert all(chunk.choices for chunk in chunks)


def test_the_arguments_of_a_tool_call_arrive_whole(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="calling", messages=[{"role": "user", "content": "Weather?"}]
    ) as stream:
        [choice] = stream.get_final_completion().choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    [call] = choice.message.tool_calls
    assert call.type == "function"
    assert (call.id, call.function.name) == ("call-1", "search")
    assert call.function.arguments == '{"city":"Bonn"}'


def test_the_openai_library_of_node_stops_an_answer_too(
    url: str, app: ReaderApp
) -> None:
    read = run_node(ROOT / "tests" / "formats" / "read_openai.mjs", url)
    assert read["ids"] == [app.by_name["node"].id]
    assert read["text"] == "One "
    assert read["last"]["chatstop"] == {"end_reason": "stopped"}
    assert read["last"]["choices"][0]["finish_reason"] == "stop"
    assert read["error"] == {
        "name": "APIError",
        "message": "The answer could not be completed.",
        "type": "server_error",
    }

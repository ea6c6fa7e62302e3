"""What the page "After a stop" shows, against a provider as strict as the real ones."""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser

from flask_chatstop import GenerationTask
from tests.support.chat import AUTH, Answer, Chat
from tests.support.pages import blocks, names_of
from tests.support.servers.threaded import served
from tests.support.strict_provider import (
    Refused,
    check_anthropic,
    check_openai,
    strict_provider,
)

PAGE = "after-a-stop.md"

Messages = list[dict[str, Any]]


@pytest.fixture(scope="module")
def provider() -> Iterator[tuple[str, threading.Event]]:
    app, go_on = strict_provider()
    with served(app) as address:
        yield address, go_on
        go_on.set()


@pytest.fixture
def page(
    provider: tuple[str, threading.Event], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """Return the names of the page, whose model says one word and is silent."""
    address, go_on = provider
    for name in ("OPENAI", "ANTHROPIC"):
        monkeypatch.setenv(f"{name}_BASE_URL", address)
        monkeypatch.setenv(f"{name}_API_KEY", "any")
    monkeypatch.setenv("ANTHROPIC_MODEL", "any")
    names = names_of(PAGE)
    names.history.clear()
    names.ends.clear()
    names.go_on = go_on
    go_on.clear()
    yield names
    go_on.set()


def ask(page: Any, query: str) -> Answer:
    body = {"user": "alice", "query": query}
    client = page.app.test_client()
    return Answer(client.post("/v1/chat-messages", json=body, headers=AUTH))


def stop(page: Any, answer: Answer) -> dict[str, Any]:
    url = f"/v1/chat-messages/{answer.task_id}/stop"
    page.app.test_client().post(url, json={"user": "alice"}, headers=AUTH)
    return answer.rest()[-1]


def call(id: str, arguments: str = "{}") -> dict[str, Any]:
    function = {"name": "search", "arguments": arguments}
    return {"id": id, "type": "function", "function": function}


def use(id: str, input: object = None) -> dict[str, Any]:
    input = {} if input is None else input
    return {"type": "tool_use", "id": id, "name": "search", "input": input}


def result(id: str) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id, "content": "Found."}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def thought(signature: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": "Hm.", "signature": signature}


HELLO: dict[str, Any] = {"role": "user", "content": "Hello?"}
NEXT: dict[str, Any] = {"role": "user", "content": "And now?"}
AFTER_OPENAI: dict[str, Messages] = {
    "an empty answer": [HELLO, {"role": "assistant", "content": ""}, NEXT],
    "no answer": [HELLO, {"role": "assistant", "content": None}, NEXT],
    "a tool without a result": [
        HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call("1"), call("2")]},
        {"role": "tool", "tool_call_id": "2", "content": "Found."},
        {"role": "assistant", "content": "Half an"},
        NEXT,
    ],
    "a result that came late": [
        HELLO,
        {"role": "assistant", "content": "I search.", "tool_calls": [call("1")]},
        NEXT,
        {"role": "tool", "tool_call_id": "1", "content": "Found."},
        NEXT,
    ],
    "arguments that were cut": [
        HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call("1", '{"q": "c')]},
        NEXT,
    ],
    "a result without its call": [
        HELLO,
        {"role": "tool", "tool_call_id": "1", "content": "Found."},
        NEXT,
    ],
}
AFTER_ANTHROPIC: dict[str, Messages] = {
    "an empty answer": [HELLO, {"role": "assistant", "content": ""}, NEXT],
    "an answer of no blocks": [HELLO, {"role": "assistant", "content": []}, NEXT],
    "a blank text": [HELLO, {"role": "assistant", "content": [text(" \n")]}, NEXT],
    "a tool without a result": [
        HELLO,
        {"role": "assistant", "content": [text("I search."), use("1"), use("2")]},
        {"role": "user", "content": [result("2")]},
        {"role": "assistant", "content": "Half an"},
        NEXT,
    ],
    "a result that came late": [
        HELLO,
        {"role": "assistant", "content": [use("1")]},
        NEXT,
        {"role": "user", "content": [result("1")]},
        NEXT,
    ],
    "an input that was cut": [
        HELLO,
        {"role": "assistant", "content": [use("1", '{"q": "c')]},
        NEXT,
    ],
    "a thought that was cut": [
        HELLO,
        {"role": "assistant", "content": [thought(""), text("Half an")]},
        NEXT,
    ],
    "a thought alone": [HELLO, {"role": "assistant", "content": [thought("s")]}, NEXT],
}


@pytest.mark.parametrize("case", AFTER_OPENAI)
def test_openai_takes_the_next_request_that_it_had_refused(
    page: Any, case: str
) -> None:
    client = openai.OpenAI(max_retries=0)
    kept = json.dumps(AFTER_OPENAI[case])

    def send(messages: Any) -> str | None:
        with client.chat.completions.create(
            model="any", messages=messages, stream=True
        ) as stream:
            return next(stream).choices[0].delta.content

    with pytest.raises(openai.APIStatusError):
        send(AFTER_OPENAI[case])
    assert send(page.for_openai(AFTER_OPENAI[case])) == "One"
    assert json.dumps(AFTER_OPENAI[case]) == kept


@pytest.mark.parametrize("case", AFTER_ANTHROPIC)
def test_anthropic_takes_the_next_request_that_it_had_refused(
    page: Any, case: str
) -> None:
    client = anthropic.Anthropic(max_retries=0)
    kept = json.dumps(AFTER_ANTHROPIC[case])

    def send(messages: Any) -> int:
        with client.messages.create(
            model="any", max_tokens=9, messages=messages, stream=True
        ) as stream:
            event = next(stream)
            assert event.type == "message_start"
            return event.message.usage.input_tokens

    with pytest.raises(anthropic.BadRequestError):
        send(AFTER_ANTHROPIC[case])
    assert send(page.for_anthropic(AFTER_ANTHROPIC[case])) == 7
    assert json.dumps(AFTER_ANTHROPIC[case]) == kept


def test_an_answer_that_came_is_not_changed() -> None:
    names = names_of(PAGE)
    called = {"role": "assistant", "content": "I search.", "tool_calls": [call("1")]}
    found = {"role": "tool", "tool_call_id": "1", "content": "Found."}
    messages = [HELLO, called, found, {"role": "assistant", "content": "Two."}, NEXT]
    assert names.for_openai(messages) == messages
    answered = [thought("s"), text("I search."), use("1")]
    turns = [
        {"role": "user", "content": [text("Hello?")]},
        {"role": "assistant", "content": answered},
        {"role": "user", "content": [result("1"), text("And now?")]},
    ]
    assert names.for_anthropic(turns) == turns


def histories(
    answer: Callable[[str], st.SearchStrategy[Messages]],
) -> st.SearchStrategy[Messages]:
    """Return histories of up to five questions, with whatever came of each."""
    whatever = st.integers(0, 5).flatmap(
        lambda turns: st.tuples(*(answer(str(turn)) for turn in range(turns)))
    )
    return whatever.map(
        lambda answers: [m for each in answers for m in (HELLO, *each)] + [NEXT]
    )


def of_openai(turn: str) -> st.SearchStrategy[Messages]:
    ids = [f"{turn}-{number}" for number in range(3)]
    calls = st.lists(st.sampled_from(ids), unique=True).flatmap(
        lambda ids: st.tuples(
            *(st.sampled_from(["{}", "", '{"q', "1"]).map(_calls(id)) for id in ids)
        )
    )
    assistant = st.fixed_dictionaries(
        {"role": st.just("assistant"), "content": st.sampled_from([None, "", "Half"])},
        optional={"tool_calls": calls.map(list)},
    )
    tool = st.sampled_from(ids).map(
        lambda id: {"role": "tool", "tool_call_id": id, "content": "Found."}
    )
    # A call comes once, and its result whenever it is written.
    rest = st.lists(tool | st.just({"role": "assistant", "content": "Half"}))
    return st.tuples(assistant, rest).map(lambda both: [both[0], *both[1]])


def _calls(id: str) -> Callable[[str], dict[str, Any]]:
    return lambda arguments: call(id, arguments)


def of_anthropic(turn: str) -> st.SearchStrategy[Messages]:
    ids = [f"{turn}-{number}" for number in range(3)]
    block = st.sampled_from(
        [text(""), text("Half"), thought(""), thought("s")]
        + [use(id) for id in ids]
        + [use(id, "{") for id in ids]
    )
    assistant = st.lists(block, unique_by=lambda b: b.get("id") or str(b))
    answer = assistant.map(lambda blocks: {"role": "assistant", "content": blocks})
    results = st.lists(st.sampled_from(ids).map(result), min_size=1)
    tools = results.map(lambda results: {"role": "user", "content": results})
    half = st.sampled_from(["", "Half"]).map(
        lambda said: {"role": "assistant", "content": said}
    )
    return st.tuples(answer, st.lists(tools | half)).map(
        lambda both: [both[0], *both[1]]
    )


@settings(deadline=None)
@given(histories(of_openai))
def test_whatever_came_of_the_answers_openai_takes_the_next_request(
    messages: Messages,
) -> None:
    check_openai(names_of(PAGE).for_openai(messages))


@settings(deadline=None)
@given(histories(of_anthropic))
def test_whatever_came_of_the_answers_anthropic_takes_the_next_request(
    messages: Messages,
) -> None:
    check_anthropic(names_of(PAGE).for_anthropic(messages))


def test_the_provider_is_as_strict_as_this_file_says() -> None:
    for messages in AFTER_OPENAI.values():
        with pytest.raises((Refused, ValueError)):
            check_openai(messages)
    for messages in AFTER_ANTHROPIC.values():
        with pytest.raises(Refused):
            check_anthropic(messages)


def test_its_chat_goes_on_after_a_stop_before_an_answer_and_within_one(
    page: Any,
) -> None:
    stop(page, ask(page, "Be silent."))
    answer = ask(page, "And now?")
    assert answer.next()["answer"] == "One"
    assert stop(page, answer)["metadata"]["end_reason"] == "stopped"
    page.go_on.set()
    events = ask(page, "Go on.").rest()
    assert events[-1]["metadata"]["end_reason"] == "finished"
    assert [end.text for end in page.ends] == ["", "One", "One"]
    assert page.for_openai(page.history) == [
        {"role": "user", "content": "Be silent."},
        {"role": "user", "content": "And now?"},
        {"role": "assistant", "content": "One"},
        {"role": "user", "content": "Go on."},
        {"role": "assistant", "content": "One"},
    ]
    _, stopped, finished = page.ends
    messages = [{"role": "user", "content": "And now?"}]
    assert page.tokens_of(stopped, messages) == (2, 1, True)
    assert page.tokens_of(finished, messages) == (7, 2, False)


def test_anthropic_tells_the_input_of_an_answer_that_is_stopped(page: Any) -> None:
    chat = Chat(lambda task: page.claude([HELLO]))
    answer = chat.ask()
    assert answer.next()["answer"] == "One"
    chat.stop(answer.task_id)
    usage = answer.rest()[-1]["metadata"]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (7, 0)
    page.go_on.set()
    chat.ask().rest()
    stopped, finished = chat.ends
    assert stopped.usage.is_estimate
    assert page.tokens_of(stopped, [HELLO]) == (7, 1, True)
    assert page.tokens_of(finished, [HELLO]) == (7, 2, False)


def test_the_id_of_a_stopped_answer_is_kept_for_the_provider_s_record(
    page: Any,
) -> None:
    def pieces(task: GenerationTask) -> Iterator[str]:
        stream = openai.OpenAI().chat.completions.create(
            model="any",
            messages=[{"role": "user", "content": "Hello?"}],
            stream=True,
        )
        for chunk in page.with_its_id(stream):
            if chunk.choices:
                yield chunk.choices[0].delta.content or ""

    chat = Chat(pieces)
    answer = chat.ask()
    answer.next()
    chat.stop(answer.task_id)
    answer.rest()
    assert page.to_look_up(chat.ends) == ["gen-1"]


def test_its_script_tells_what_is_not_saved(
    browser: Browser, page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> str:
        raise RuntimeError("the database is away, or the model")

    said = []
    for save in (page.save, fail):
        monkeypatch.setattr(page, "save", save)
        answer = ask(page, "Hello?")
        said.append(stop(page, answer))
        page.go_on.set()
        said.append(ask(page, "And now?").rest()[-1])
        page.go_on.clear()
        with monkeypatch.context() as patch:
            patch.setattr(page, "answer", lambda messages: map(fail, messages))
            said.append(ask(page, "Fail.").rest()[-1])
    [script] = blocks(PAGE, "js")
    with browser.new_context() as context:
        tab = context.new_page()
        tab.add_script_tag(content=script)
        notes = tab.evaluate("(events) => events.map(noteOf)", said)
    lost = "This answer could not be saved. Copy what you need."
    failed = "The answer could not be completed."
    assert notes == ["Stopped.", "", failed, lost, lost, lost]

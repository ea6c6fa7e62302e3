"""What is refused as a source, and what the error says to give instead."""

from collections import UserDict
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from flask import Response
from openai.types.chat import ChatCompletion

from flask_chatstop import GenerationTask, chat_response
from tests.support.apps import new_task
from tests.support.chat import Chat


def chunks() -> Iterator[str]:
    yield "One"


async def async_chunks() -> AsyncIterator[str]:
    yield "One"


async def whole() -> str:
    return "One"


class Sdk:
    async def whole(self) -> str:
        return "One"

    def __call__(self) -> None:
        pass


COMPLETION = ChatCompletion.model_construct(id="1", choices=[])
#: What is given as a source, and words of the error.
REFUSED: list[tuple[Any, str]] = [
    ("Hello", r"a str, .* letter by letter; .* \[text\]"),
    ("", "a str"),
    (b"Hello", r"bytes, .* number by number; .* \[data.decode\(\)\]"),
    (bytearray(b"Hello"), "bytearray"),
    (memoryview(b"Hello"), "memoryview"),
    ({"answer": "Hello"}, r"a dict, .* only the keys .* values\(\)"),
    (UserDict(answer="Hello"), "a UserDict, .* only the keys"),
    (COMPLETION, "a ChatCompletion, which is a whole answer .* stream=True"),
    (None, "NoneType is neither; let the function .* yield the chunks"),
    (7, r"int is neither\.$"),
    (object(), r"object is neither\.$"),
    (chunks, r"function is neither; call it: chunks\(\)\.$"),
    (async_chunks, r"call it: async_chunks\(\)\.$"),
    (whole, r"call it: whole\(\) and await that in an async generator"),
    (Sdk().whole, r"call it: whole\(\) and await that in an async generator"),
    (Sdk, r"type is neither; call it: Sdk\(\)\.$"),
    (Sdk(), r"Sdk is neither; call it\.$"),
    (Response("Hello"), "Response is neither; give the chunks of the answer"),
    (httpx.Response(200), r"Response is neither\.$"),
]


@pytest.fixture(params=[True, False], ids=["enabled", "disabled"])
def task(request: pytest.FixtureRequest) -> GenerationTask:
    """Give a task of an app, and one of an app in its own tests."""
    return new_task(Chat(config={"CHATSTOP_ENABLED": request.param}))


@pytest.mark.parametrize(
    ("source", "words"), REFUSED, ids=[type(source).__name__ for source, _ in REFUSED]
)
def test_what_is_no_source_is_refused_before_anything_is_sent(
    task: GenerationTask, source: Any, words: str
) -> None:
    with pytest.raises(TypeError, match=words):
        task.stream(source)
    with pytest.raises(TypeError, match=words):
        chat_response(task, source)
    assert not task.end_reason
    # The next one is taken.
    assert list(task.stream(["One"])) == ["One"]


def test_a_coroutine_is_refused(task: GenerationTask) -> None:
    coroutine: Any = whole()
    with pytest.raises(TypeError, match="coroutine is neither; await it in an async"):
        task.stream(coroutine)
    coroutine.close()


@pytest.mark.parametrize(
    "make",
    [list, tuple, set, iter, lambda _: chunks(), lambda _: {1: "One"}.values()],
    ids=["list", "tuple", "set", "iterator", "generator", "values"],
)
def test_an_iterable_of_chunks_is_a_source(make: Any) -> None:
    assert list(new_task(Chat()).stream(make(["One"]))) == ["One"]


def test_a_model_that_yields_chunks_of_its_own_is_a_source(
    task: GenerationTask,
) -> None:
    class Streaming(ChatCompletion):
        def __iter__(self) -> Any:
            return iter(["One"])

    assert list(task.stream(Streaming.model_construct())) == ["One"]

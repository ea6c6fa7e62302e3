"""Programs read JSON lines and plain text, with the HTTP libraries of Python."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import requests

from flask_chatstop.formats import JSONLines, PlainText
from tests.formats.reader_app import ReaderApp, silent
from tests.support.chat import AUTH

Read = Callable[[str, dict[str, str]], Any]


@contextmanager
def by_requests(url: str, body: dict[str, str]) -> Iterator[Any]:
    with requests.post(url, json=body, stream=True, timeout=30) as response:
        yield response


@contextmanager
def by_httpx(url: str, body: dict[str, str]) -> Iterator[Any]:
    with httpx.stream("POST", url, json=body, timeout=30) as response:
        yield response


each_library = pytest.mark.parametrize("read", [by_requests, by_httpx])


@each_library
def test_json_lines_are_read_one_by_one_and_stopped(read: Read) -> None:
    def odd(task: Any) -> Iterator[str]:
        yield "a\u2028b\x85c\r\n"  # what a reader may take for the end of a line
        yield from silent(task)

    app = ReaderApp("/chat", JSONLines, {"odd": odd})
    with app.served() as url, read(f"{url}/chat", {"model": "odd"}) as response:
        lines = map(json.loads, response.iter_lines())
        task_id = next(lines)["task_id"]
        assert next(lines) == {"type": "text", "text": "a\u2028b\x85c\r\n"}
        assert next(lines) == {"type": "text", "text": "One "}
        stop = f"{url}/v1/chat-messages/{task_id}/stop"
        assert requests.post(stop, json={"user": "alice"}, headers=AUTH, timeout=30).ok
        assert list(lines) == [{"type": "end", "end_reason": "stopped"}]


@each_library
def test_plain_text_is_read_as_it_comes_and_stopped(read: Read) -> None:
    app = ReaderApp("/chat", PlainText, {"silent": silent})
    with app.served() as url, read(f"{url}/chat", {"model": "silent"}) as response:
        task_id = response.headers["Chatstop-Task-Id"]
        if isinstance(response, httpx.Response):
            pieces = response.iter_text()
        else:
            pieces = response.iter_content(None, decode_unicode=True)
        assert next(pieces) == "One "
        stop = f"{url}/v1/chat-messages/{task_id}/stop"
        assert requests.post(stop, json={"user": "alice"}, headers=AUTH, timeout=30).ok
        assert "".join(pieces) == ""

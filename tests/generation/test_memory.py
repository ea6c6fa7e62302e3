"""How much memory a long answer takes, and a stream that waits under gevent."""

import functools
import sys
import tracemalloc
from collections.abc import Iterator

import pytest

from flask_chatstop import GenerationTask
from flask_chatstop.generation.text import AnswerText
from tests.support.chat import AUTH, Chat
from tests.support.scripts import run

SIZE = 2_000_000

ALPHABETS = {
    "ascii": "abcdefgh",
    "latin": "äöüßéèçñ",
    "chinese": "你好世界再见朋友",
    "emoji": "abc😀defg",
    "halves": "ab\ud83d\ude00cd\ud83d\ude00",
}


@pytest.mark.slow
@pytest.mark.parametrize("alphabet", ALPHABETS)
@pytest.mark.parametrize("size", [4, 1_000, 100_000, SIZE])
def test_an_answer_takes_at_most_three_times_the_memory_of_its_text(
    size: int, alphabet: str
) -> None:
    def pieces(task: GenerationTask) -> Iterator[str]:
        letters = ALPHABETS[alphabet]
        for start in range(0, SIZE, size):
            # A new string each time, as a provider's client makes it.
            part = letters[start % 8 :] + letters[: start % 8]
            yield (part * (size // 8 + 1))[:size]

    chat = Chat(pieces)
    Chat().ask().rest()  # what is imported and hooked into with the first source
    tracemalloc.start()
    try:
        response = chat.client.post(
            "/v1/chat-messages", json={"user": "alice"}, headers=AUTH, buffered=False
        )
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        for _ in response.response:
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    [end] = chat.ends
    assert end.reason == "finished"
    factor = (peak - before) / sys.getsizeof(end.text)
    assert factor <= 3


@pytest.mark.parametrize("size", [1, 2, 3, 1_500, 70_001])
def test_a_text_is_what_its_pieces_are_together(size: int) -> None:
    whole = "One \ud83d\ude00 \ud83d 😀 \ude00\ud83d\ude00" * 5_000
    text = AnswerText()
    for start in range(0, len(whole), size):
        text.add(whole[start : start + size])
    expected = whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert str(text) == str(text) == expected


def test_half_a_pair_waits_for_the_other_half() -> None:
    text = AnswerText()
    for _ in range(3_000):
        text.add("\ud83d")
        assert str(text).endswith("\ufffd")
        text.add("\ude00")
    assert str(text) == "😀" * 3_000


_SILENT = """
from gevent import monkey
monkey.patch_all()
import asyncio, gc, os, threading, tracemalloc

import gevent
from flask import Flask, Response
from werkzeug.test import EnvironBuilder

from flask_chatstop import ChatStop, chat_response

app = Flask("app")
app.config["CHATSTOP_API_KEYS"] = ["key"]
chatstop = ChatStop()
app.register_blueprint(chatstop)


def silence():
    yield "piece"
    threading.Event().wait()


async def async_silence():
    yield "piece"
    await asyncio.get_running_loop().create_future()


@app.get("/bare")
def bare():
    return Response(piece for piece in silence())


@app.get("/sync")
@chatstop.login_required
def sync_source():
    return chat_response(chatstop.start(user="alice"), silence())


@app.get("/async")
@chatstop.login_required
def async_source():
    return chat_response(chatstop.start(user="alice"), async_silence())


def read(path, begun):
    headers = {"Authorization": "Bearer key"}
    environ = EnvironBuilder(path=path, headers=headers).get_environ()
    for frame in app.wsgi_app(environ, lambda *_: None):
        if b"piece" in frame:
            begun.release()


def begin(path, number):
    begun = threading.Semaphore(0)
    readers = [gevent.spawn(read, path, begun) for _ in range(number)]
    for _ in readers:
        begun.acquire()
    gevent.idle()  # until all of them wait
    gc.collect()
    return readers


def measure(path):
    few = begin(path, 20)  # what is made once
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    many = begin(path, 100)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) // 100, many[0]._stack_saved


kept, stack = measure("/bare")
for path in ("/async", "/sync"):
    ours, our_stack = measure(path)
    print(path, ours - kept, our_stack - stack, flush=True)
os._exit(0)  # they would be ended one by one
"""


def test_a_silent_stream_takes_little_more_than_a_bare_one_under_gevent() -> None:
    more = {path: (kept, stack) for path, kept, stack in map(str.split, _measured())}
    for path, limit in (("/async", 10_700), ("/sync", 17_100)):
        kept, stack = map(int, more[path])
        # From Python 3.11 to 3.13: 9,000 to 10,300 bytes, and 15,800 to 16,900.
        assert kept - stack <= limit


def test_a_silent_stream_waits_about_as_deep_as_a_bare_one_under_gevent() -> None:
    # What lies on the stack of C is copied for each stream that waits. Since Python
    # 3.12 a loop over a generator, as in the bare one, takes nothing of it.
    limit = 0 if sys.version_info < (3, 12) else 1_000
    for line in _measured():
        assert int(line.split()[2]) <= limit


@functools.cache
def _measured() -> list[str]:
    return run(_SILENT).splitlines()

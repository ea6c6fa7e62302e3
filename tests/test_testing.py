"""What the package gives to the tests of apps."""

import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from flask import Flask, Response, current_app, g

from flask_chatstop import (
    ChatStop,
    EndReason,
    GenerationEnd,
    GenerationTask,
    chat_response,
)
from flask_chatstop.state import AppState
from flask_chatstop.testing import stop_after
from tests.support.chat import AUTH, KEYS
from tests.support.threads import threads_begun


def _count() -> Iterator[str]:
    number = 0
    while True:
        yield f"{number} "
        number += 1


async def _acount() -> AsyncIterator[str]:
    for piece in _count():
        yield piece


class Shop:
    """An app with a chat, switched on or off."""

    def __init__(self, source: Callable[[], Any], **config: object) -> None:
        self.app = Flask("shop")
        self.app.config.update(config, CHATSTOP_API_KEYS=KEYS)
        self.chatstop = ChatStop()
        self.app.register_blueprint(self.chatstop, url_prefix="/v1")
        self.ends: list[GenerationEnd] = []

        @self.app.post("/chat")
        @self.chatstop.login_required
        def chat() -> Response:
            task = self.chatstop.start(user="alice")
            return chat_response(task, source(), on_end=self.ends.append)

        self.client = self.app.test_client()


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("source", [_count, _acount])
def test_a_stream_of_the_test_client_is_stopped_after_some_chunks(
    source: Callable[[], Any], enabled: bool
) -> None:
    shop = Shop(source, CHATSTOP_ENABLED=enabled)
    sent = stop_after(shop.client, shop.client.post("/chat", headers=AUTH), 3)
    assert b'"answer":"1 "' in sent[2]
    assert b'"end_reason":"stopped"' in sent[-1]
    assert shop.ends[0].reason is EndReason.STOPPED
    assert shop.ends[0].text.startswith("0 1 ")


def test_a_stream_that_is_shorter_says_so() -> None:
    shop = Shop(lambda: ["One "])
    response = shop.client.post("/chat", headers=AUTH)
    with pytest.raises(AssertionError, match="ended after 3 chunks"):
        stop_after(shop.client, response, 9)


def test_of_several_tasks_it_asks_for_one() -> None:
    shop = Shop(_count, CHATSTOP_ENABLED=False)
    responses = [shop.client.post("/chat", headers=AUTH) for _ in range(2)]
    with pytest.raises(AssertionError, match="2 tasks run; give the task_id"):
        stop_after(shop.client, responses[0], 1)
    for response in responses:
        response.close()


# CHATSTOP_ENABLED = False


def test_an_app_that_has_it_switched_off_has_no_route_and_no_thread() -> None:
    shop = Shop(
        lambda: ["One ", "two"],
        CHATSTOP_ENABLED=False,
        CHATSTOP_BACKEND="redis://no-such-host.invalid",
    )
    assert [str(rule) for rule in shop.app.url_map.iter_rules()] == [
        "/static/<path:filename>",
        "/chat",
    ]
    with threads_begun() as begun:
        answer = shop.client.post("/chat", headers=AUTH).get_data(as_text=True)
    assert '"end_reason":"finished"' in answer
    assert shop.ends[0].text == "One two"
    assert begun == []


def test_a_source_runs_in_one_app_context_when_it_is_switched_off() -> None:
    torn_down: list[object] = []

    def source() -> Iterator[str]:
        g.seen = current_app.name
        yield "One "
        yield g.seen

    shop = Shop(source, CHATSTOP_ENABLED=False)
    shop.app.teardown_appcontext(torn_down.append)
    answer = shop.client.post("/chat", headers=AUTH).get_data(as_text=True)
    assert '"answer":"shop"' in answer
    assert torn_down


def test_an_interrupt_ends_a_test_when_it_is_switched_off() -> None:
    closed: list[bool] = []

    def source() -> Iterator[str]:
        try:
            yield "One "
            signal.raise_signal(signal.SIGINT)
        finally:
            closed.append(True)

    shop = Shop(source, CHATSTOP_ENABLED=False)
    # A shell that starts the tests in the background lets them ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            shop.client.post("/chat", headers=AUTH).get_data()
    finally:
        signal.signal(signal.SIGINT, before)
    assert closed == [True]


def test_a_stop_begins_no_thread_when_it_is_switched_off() -> None:
    shop = Shop(_count, CHATSTOP_ENABLED=False)
    called_in: list[str] = []
    response = shop.client.post("/chat", headers=AUTH)
    state = AppState.of(shop.app)
    [task] = state.worker.running()
    assert isinstance(task, GenerationTask)
    task.on_stop(lambda: called_in.append(threading.current_thread().name))
    with threads_begun() as begun:
        stop_after(shop.client, response, 2)
    assert called_in == [threading.current_thread().name]
    assert begun == []


@pytest.mark.parametrize("source", [_count, _acount])
def test_a_client_that_leaves_closes_a_source_that_is_read_inline(
    source: Callable[[], Any],
) -> None:
    shop = Shop(source, CHATSTOP_ENABLED=False)
    response = shop.client.post("/chat", headers=AUTH)
    stream = iter(response.response)
    next(stream), next(stream)
    response.close()
    assert shop.ends[0].reason is EndReason.DISCONNECTED


def test_a_source_that_fails_inline_is_a_failure() -> None:
    def source() -> Iterator[str]:
        yield "One "
        raise ValueError("no")

    shop = Shop(source, CHATSTOP_ENABLED=False)
    answer = shop.client.post("/chat", headers=AUTH).get_data(as_text=True)
    assert '"event":"error"' in answer
    assert shop.ends[0].reason is EndReason.FAILED


_WITHOUT_HYPOTHESIS = """
import sys
sys.modules["hypothesis"] = None
from flask_chatstop.testing import listening, new_record, stop_after, wait_until
try:
    from flask_chatstop.testing import BackendContract
except ImportError as error:
    assert "pip install pytest hypothesis" in str(error), error
else:
    raise AssertionError
"""


def test_only_the_contracts_need_hypothesis() -> None:
    subprocess.run([sys.executable, "-c", _WITHOUT_HYPOTHESIS], check=True, timeout=60)

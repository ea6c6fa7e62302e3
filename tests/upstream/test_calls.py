"""A stop ends every HTTP call that a task has open, and asks for no new one."""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import httpx
import httpx2
import openai
import pytest
import requests
import urllib3
from flask import Response

from flask_chatstop import (
    GenerationTask,
    SourceStopped,
    TaskStopped,
    chat_response,
    hang_up,
    task_ended,
)
from flask_chatstop.testing import wait_until
from flask_chatstop.upstream import calls, cleanup, hooks
from tests.support.apps import new_task
from tests.support.chat import AUTH, Chat
from tests.support.provider import Provider, provider


@pytest.fixture
def other() -> Iterator[Provider]:
    """Another host, where an app saves its answers."""
    with provider("end") as server:
        yield server


def stop_when(silent: Provider, task: GenerationTask, count: int = 1) -> None:
    """Stop the task as soon as the provider has so many calls that wait."""

    def stop() -> None:
        wait_until(lambda: len(silent.calls) >= count)
        assert silent.then == "talk" or silent.calls[-1].silent.wait(5)
        task.stop()

    threading.Thread(target=stop).start()


def read_httpx(url: str) -> Iterator[object]:
    with httpx.Client(timeout=None) as client, client.stream("POST", url) as reply:
        yield from reply.iter_raw()


def read_httpx2(url: str) -> Iterator[object]:
    with httpx2.Client(timeout=None) as client, client.stream("POST", url) as reply:
        yield from reply.iter_raw()


def read_requests(url: str) -> Iterator[object]:
    with requests.post(url, stream=True, timeout=60) as reply:
        yield from reply.iter_content(chunk_size=None)


def read_urllib3(url: str) -> Iterator[object]:
    reply = urllib3.PoolManager().request("POST", url, preload_content=False)
    yield from reply.stream()
    reply.release_conn()


def read_urllib3_whole(url: str) -> Iterator[object]:
    yield urllib3.PoolManager().request("POST", url, retries=5).data


def read_async(url: str) -> Iterator[object]:
    async def read() -> list[bytes]:
        async with (
            httpx.AsyncClient(timeout=None) as client,
            client.stream("POST", url) as reply,
        ):
            return [part async for part in reply.aiter_raw()]

    yield from asyncio.run(read())


def read_aiohttp(url: str) -> Iterator[object]:
    async def read() -> list[bytes]:
        async with aiohttp.ClientSession() as session, session.post(url) as reply:
            return [part async for part in reply.content.iter_any()]

    yield from asyncio.run(read())


READERS = [
    read_httpx,
    read_httpx2,
    read_requests,
    read_urllib3,
    read_urllib3_whole,
    read_async,
    read_aiohttp,
]


@pytest.mark.parametrize("then", ["silence", "hold", "mute", "talk"])
@pytest.mark.parametrize("read", READERS)
def test_a_stop_ends_an_open_call_and_raises_where_it_is_read(
    task: GenerationTask,
    silent: Provider,
    read: Callable[[str], Iterator[object]],
    then: str,
) -> None:
    silent.then = then
    raised: list[BaseException] = []
    over = threading.Event()

    def source() -> Iterator[object]:
        try:
            yield from read(f"{silent.url}/chat/completions")
        except BaseException as error:
            raised.append(error)
            raise
        finally:
            over.set()

    stream = task.stream(source())
    stop_when(silent, task)
    list(stream)
    assert silent.calls[0].closed.wait(5)
    assert over.wait(5)
    # A source that waited for the stream's reader is closed instead.
    assert isinstance(raised[0], SourceStopped | GeneratorExit)
    assert len(silent.calls) == 1


def test_every_call_that_is_open_is_ended(
    task: GenerationTask, silent: Provider
) -> None:
    def source() -> Iterator[object]:
        with httpx.Client(timeout=None) as client:
            url = f"{silent.url}/chat/completions"
            replies = [
                client.send(client.build_request("POST", url), stream=True)
                for _ in range(3)
            ]
            yield from replies[0].iter_raw()

    stop_when(silent, task, 3)
    list(task.stream(source()))
    assert all(call.closed.wait(5) for call in silent.calls)


@pytest.mark.parametrize("reason", ["disconnected", "failed"])
def test_a_client_that_leaves_and_a_failure_end_the_calls_too(
    task: GenerationTask, silent: Provider, reason: str
) -> None:
    stream = task.stream(read_httpx(f"{silent.url}/chat/completions"))
    next(stream)
    task.end(reason)
    assert silent.calls[0].closed.wait(5)


def test_a_source_that_has_finished_keeps_what_it_has_sent_off(
    task: GenerationTask, silent: Provider
) -> None:
    replies: list[requests.Response] = []

    def source() -> Iterator[str]:
        replies.append(
            requests.post(f"{silent.url}/chat/completions", stream=True, timeout=60)
        )
        yield "done"

    assert list(task.stream(source())) == ["done"]
    assert task.stop() is False
    assert not silent.calls[0].closed.wait(0.2)
    assert hang_up(replies[0])


@pytest.mark.parametrize(
    ("reason", "count"), [("stopped", 2), ("disconnected", 2), ("finished", 0)]
)
def test_the_app_is_told_how_many_calls_were_cut(
    silent: Provider, reason: str, count: int
) -> None:
    url = f"{silent.url}/chat/completions"
    opened: list[requests.Response] = []
    over = threading.Event()

    def source(task: GenerationTask) -> Iterator[str]:
        silent.then = "end"
        requests.post(url, timeout=60)
        silent.then = "silence"
        opened.append(requests.post(url, stream=True, timeout=60))
        yield "One "
        try:
            if reason != "finished":
                silent.then = "mute"
                httpx.post(url, timeout=None)
        finally:
            over.set()

    chat = Chat(source)
    told: list[int] = []

    def on_ended(sender: object, calls_cut: int, **more: object) -> None:
        told.append(calls_cut)

    with task_ended.connected_to(on_ended, chat.app):
        answer = chat.ask()
        assert answer.next()["answer"] == "One "
        if reason != "finished":
            wait_until(lambda: len(silent.calls) == 3)
        if reason == "stopped":
            chat.stop(answer.task_id)
        if reason == "disconnected":
            answer.leave()
        else:
            answer.rest()
    [end] = chat.ends
    assert (end.reason, end.calls_cut) == (reason, count)
    assert told == [count]
    assert over.wait(5)
    opened[0].close()


# A view


def test_a_model_that_is_asked_in_a_view_is_hung_up_on_and_answered_as_stopped(
    silent: Provider,
) -> None:
    silent.then = "mute"
    chat = Chat()

    @chat.app.post("/ask")
    @chat.chatstop.login_required
    def ask() -> Response:
        task = chat.chatstop.start(user="alice")
        chat.tasks.append(task)
        with task, openai.OpenAI(base_url=silent.url, api_key="any") as client:
            client.chat.completions.create(
                model="loopback", messages=[{"role": "user", "content": "hi"}]
            )
        return chat_response(task, ["never"])

    answers: list[Any] = []
    asking = threading.Thread(
        target=lambda: answers.append(chat.app.test_client().post("/ask", headers=AUTH))
    )
    asking.start()
    wait_until(lambda: bool(silent.calls))
    chat.stop(chat.tasks[0].id)
    asking.join(5)
    assert b'"end_reason":"stopped"' in answers[0].data
    assert silent.calls[0].closed.wait(5)
    assert len(silent.calls) == 1, "the library has tried again"


def test_a_view_is_told_of_a_stop_through_a_task_group(
    task: GenerationTask, silent: Provider
) -> None:
    silent.then = "mute"

    async def ask() -> None:
        async with httpx.AsyncClient(timeout=None) as client, asyncio.TaskGroup() as g:
            for _ in range(2):
                g.create_task(client.post(f"{silent.url}/chat/completions"))

    stop_when(silent, task, 2)
    with pytest.raises(TaskStopped), task:
        asyncio.run(ask())


def test_a_view_is_told_of_a_stop_through_a_pool(
    task: GenerationTask, silent: Provider
) -> None:
    silent.then = "mute"

    def ask(number: int) -> None:
        requests.post(f"{silent.url}/chat/completions", timeout=60)

    stop_when(silent, task, 2)
    with (
        concurrent.futures.ThreadPoolExecutor() as pool,
        pytest.raises(TaskStopped),
    ):
        list(pool.map(task.bind(ask), [1, 2]))


def test_a_view_works_for_its_task_within_the_with_block_only(
    task: GenerationTask,
) -> None:
    assert calls.bound() is None, "start() has bound the task to the view's thread"
    with task, task:
        with task.shield():
            assert calls.bound_calls() is None
        assert calls.bound_calls() is not None
    assert calls.bound() is None
    with pytest.raises(ZeroDivisionError), task:
        _ = 1 / 0
    assert calls.bound() is None


def test_a_view_is_told_by_an_exception_that_flask_handles(
    task: GenerationTask, silent: Provider
) -> None:
    task.stop()
    with pytest.raises(TaskStopped), task:
        requests.post(f"{silent.url}/chat/completions", timeout=60)
    with pytest.raises(TaskStopped), task:
        task.raise_if_stopped()
    assert silent.calls == []


# No model is asked again


def test_a_library_that_tries_again_after_the_stop_is_refused(
    task: GenerationTask, silent: Provider
) -> None:
    silent.then = "busy"  # try again in a second

    def source() -> Iterator[object]:
        client = openai.OpenAI(base_url=silent.url, api_key="any", max_retries=5)
        yield client.chat.completions.create(
            model="loopback", messages=[{"role": "user", "content": "hi"}]
        )

    over = threading.Event()
    stream = task.stream(finally_set(source(), over))
    stop_when(silent, task)
    assert list(stream) == []
    assert over.wait(5)
    assert len(silent.calls) == 1


def finally_set(chunks: Iterator[Any], event: threading.Event) -> Iterator[Any]:
    try:
        yield from chunks
    finally:
        event.set()


def test_no_retry_loop_and_no_tool_loop_swallows_a_stop(
    task: GenerationTask, silent: Provider
) -> None:
    silent.then = "mute"
    tries: list[int] = []
    over = threading.Event()

    def source() -> Iterator[str]:
        for number in range(5):
            tries.append(number)
            try:
                requests.post(f"{silent.url}/chat/completions", timeout=60)
            except Exception:
                continue
        yield "after all"

    stop_when(silent, task)
    assert list(task.stream(finally_set(source(), over))) == []
    assert over.wait(5)
    assert tries == [0]


def test_an_agent_asks_no_second_model_after_the_stop_of_its_first_step(
    task: GenerationTask, silent: Provider
) -> None:
    tool_runs, tool_is_over, over = (threading.Event() for _ in range(3))
    silent.then = "end"
    url = f"{silent.url}/chat/completions"

    def source() -> Iterator[str]:
        requests.post(url, timeout=60)
        tool_runs.set()
        assert tool_is_over.wait(10)
        requests.post(url, timeout=60)
        yield "never"

    stream = task.stream(finally_set(source(), over))
    reading = threading.Thread(target=lambda: list(stream))
    reading.start()
    assert tool_runs.wait(5)
    task.stop()
    tool_is_over.set()
    assert over.wait(5)
    reading.join(5)
    assert len(silent.calls) == 1


def test_a_place_in_a_pool_that_comes_free_after_the_stop_is_not_used(
    task: GenerationTask, silent: Provider
) -> None:
    over = threading.Event()
    limits = httpx.Limits(max_connections=1)
    url = f"{silent.url}/chat/completions"
    with httpx.Client(timeout=None, limits=limits) as client:
        with client.stream("POST", url):

            def source() -> Iterator[bytes]:
                yield b"waiting"
                with client.stream("POST", url) as reply:
                    yield from reply.iter_raw()

            stream = task.stream(finally_set(source(), over))
            next(stream)
            task.stop()
            assert list(stream) == []
        assert over.wait(5)
    assert len(silent.calls) == 1


def test_a_stop_while_it_connects_keeps_the_request_from_being_sent(
    task: GenerationTask,
) -> None:
    over = threading.Event()
    # A full backlog: the connection is not accepted until somebody is.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(2)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        connecting = threading.Event()

        def source() -> Iterator[str]:
            connecting.set()
            requests.get(f"http://127.0.0.1:{port}/", timeout=60)
            yield "never"

        stream = task.stream(finally_set(source(), over))
        threading.Thread(target=lambda: connecting.wait() and task.stop()).start()
        assert list(stream) == []
        received = b""
        while not over.is_set():
            listener.settimeout(0.1)
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(0.1)
                with contextlib.suppress(TimeoutError):
                    received += connection.recv(1000)
        for filler in fillers:
            filler.close()
    assert received == b""


# Cleanup gets through


def test_a_save_after_a_look_at_stopped_arrives_though_it_is_the_first_request(
    task: GenerationTask, other: Provider
) -> None:
    over, stopped = threading.Event(), threading.Event()

    def source() -> Iterator[str]:
        yield "token"
        assert stopped.wait(5)
        if task.stopped:
            requests.post(other.url, timeout=60)

    stream = task.stream(finally_set(source(), over))
    next(stream)
    task.stop()
    stopped.set()
    assert over.wait(5)
    assert len(other.calls) == 1


@pytest.mark.parametrize("way", ["except", "on_stop"])
def test_a_save_is_no_first_request_where_the_model_is_read_by_something_else(
    task: GenerationTask, other: Provider, way: str
) -> None:
    over, stopped = threading.Event(), threading.Event()
    if way == "on_stop":
        task.on_stop(stopped.set)

    def source() -> Iterator[str]:
        yield "token"
        try:
            assert stopped.wait(5)
            if way == "except":
                raise ConnectionError("closed")
        except ConnectionError:
            requests.post(other.url, timeout=60)
        else:
            requests.post(other.url, timeout=60)

    stream = task.stream(finally_set(source(), over))
    next(stream)
    task.stop()
    stopped.set()
    assert over.wait(5)
    assert len(other.calls) == 1


def test_the_first_request_of_a_task_is_refused_after_its_stop(
    task: GenerationTask, silent: Provider
) -> None:
    over, stopped = threading.Event(), threading.Event()

    def source() -> Iterator[str]:
        yield "thinking"
        assert stopped.wait(5)
        requests.post(silent.url, timeout=60)
        yield "never"

    stream = task.stream(finally_set(source(), over))
    next(stream)
    task.stop()
    stopped.set()
    assert over.wait(5)
    assert silent.calls == []


def test_what_is_saved_in_finally_arrives_even_at_the_origin_of_the_model(
    task: GenerationTask, silent: Provider
) -> None:
    saved = threading.Event()

    def source() -> Iterator[object]:
        try:
            yield from read_httpx(f"{silent.url}/chat/completions")
        finally:
            silent.then = "end"
            requests.post(f"{silent.url}/save", timeout=60)
            saved.set()

    stop_when(silent, task)
    list(task.stream(source()))
    assert saved.wait(5)
    assert len(silent.calls) == 2


def test_cleanup_has_an_end(
    task: GenerationTask, silent: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanup, "CLEANUP_TIME", 0.0)
    over = threading.Event()
    silent.then = "end"

    def source() -> Iterator[str]:
        requests.post(f"{silent.url}/chat/completions", timeout=60)
        yield "token"
        while True:
            try:
                requests.post(f"{silent.url}/chat/completions", timeout=60)
            except SourceStopped:
                break
        try:
            requests.post(f"{silent.url}/chat/completions", timeout=60)
        finally:
            over.set()

    stream = task.stream(source())
    next(stream)
    task.stop()
    assert over.wait(5)


def test_a_shield_lets_anything_through_and_keeps_its_calls_open(
    task: GenerationTask, silent: Provider
) -> None:
    stopped, over = threading.Event(), threading.Event()
    url = f"{silent.url}/chat/completions"

    def source() -> Iterator[str]:
        with task.shield():
            reply = requests.post(url, stream=True, timeout=60)
        yield "token"
        assert stopped.wait(5)
        assert not silent.calls[0].closed.wait(0.2)
        with task.shield():
            silent.then = "end"
            requests.post(url, timeout=60)
        reply.close()
        over.set()

    stream = task.stream(source())
    next(stream)
    task.stop()
    stopped.set()
    assert over.wait(5)
    assert len(silent.calls) == 2


@pytest.mark.parametrize("agent", ["langsmith-py/0.4", "OTel-OTLP-Exporter-Python/1.3"])
def test_what_observes_an_app_is_not_touched(
    task: GenerationTask, silent: Provider, agent: str
) -> None:
    over = threading.Event()
    headers = {"User-Agent": agent}
    silent.then = "end"

    def source() -> Iterator[str]:
        url = f"{silent.url}/v1/traces"
        requests.post(url, headers=headers, timeout=60)
        yield "token"
        while not task.stopped:
            pass
        httpx.post(url, headers=headers)
        over.set()

    stream = task.stream(source())
    next(stream)
    task.stop()
    assert over.wait(5)
    assert len(silent.calls) == 2


def test_a_cancel_call_that_is_registered_after_the_stop_arrives(
    task: GenerationTask, silent: Provider
) -> None:
    over, stopped = threading.Event(), threading.Event()
    url = f"{silent.url}/responses"
    silent.then = "end"

    def source() -> Iterator[str]:
        requests.post(url, timeout=60)
        yield "token"
        assert stopped.wait(5)
        task.on_stop(lambda: requests.post(f"{url}/cancel", timeout=60))

    stream = task.stream(finally_set(source(), over))
    next(stream)
    task.stop()
    stopped.set()
    assert over.wait(5)
    assert len(silent.calls) == 2


def test_what_is_told_of_the_end_of_a_source_is_told_by_http_too(
    task: GenerationTask, silent: Provider
) -> None:
    told = threading.Event()
    url = f"{silent.url}/chat/completions"
    silent.then = "end"

    def source() -> Iterator[str]:
        requests.post(url, timeout=60)
        yield "token"
        while not task.wait(60):
            pass

    @task.on_source_end
    def tell() -> None:
        requests.post(url, timeout=60)
        told.set()

    stream = task.stream(source())
    next(stream)
    task.stop()
    assert told.wait(5)


# Threads


def test_a_thread_that_copies_the_context_works_for_the_task(
    task: GenerationTask, silent: Provider
) -> None:
    def source() -> Iterator[object]:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            context = contextvars.copy_context()
            url = f"{silent.url}/chat/completions"
            yield pool.submit(context.run, requests.post, url, timeout=60).result()

    over = threading.Event()
    stop_when(silent, task)
    list(task.stream(finally_set(source(), over)))
    assert silent.calls[0].closed.wait(5)
    assert over.wait(5)


def test_a_plain_thread_works_for_the_task_when_it_is_bound(
    task: GenerationTask, silent: Provider
) -> None:
    raised: list[BaseException] = []

    def work() -> None:
        assert calls.bound() is not None
        try:
            requests.post(f"{silent.url}/chat/completions", timeout=60)
        except SourceStopped as error:
            raised.append(error)

    def source() -> Iterator[str]:
        thread = threading.Thread(target=task.bind(work))
        thread.start()
        thread.join()
        yield "never"

    over = threading.Event()
    stop_when(silent, task)
    list(task.stream(finally_set(source(), over)))
    assert over.wait(5)
    assert len(raised) == 1
    assert silent.calls[0].closed.wait(5)


def test_a_coroutine_function_can_be_bound_and_a_generator_cannot(
    task: GenerationTask,
) -> None:
    async def work() -> bool:
        await asyncio.sleep(0)
        return calls.bound() is not None

    def chunks() -> Iterator[str]:
        yield "never"

    assert asyncio.run(task.bind(work)()) is True
    with pytest.raises(TypeError, match="generator"):
        task.bind(chunks)


def test_a_bug_in_the_cleanup_of_a_bound_thread_is_told(
    task: GenerationTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    hooks.uninstall()
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args))
    task.stop()

    def work() -> None:
        try:
            task.raise_if_stopped()
        finally:
            raise KeyError("a bug of the app")

    thread = threading.Thread(target=task.bind(work))
    thread.start()
    thread.join(5)
    hooks.uninstall()
    assert [args.exc_type for args in told] == [KeyError]


def test_a_bound_thread_that_is_stopped_says_nothing(
    task: GenerationTask, capfd: pytest.CaptureFixture[str]
) -> None:
    task.stop()
    thread = threading.Thread(target=task.bind(task.raise_if_stopped))
    thread.start()
    thread.join(5)
    assert capfd.readouterr().err == ""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        future = pool.submit(task.bind(task.raise_if_stopped))
        with pytest.raises(TaskStopped):
            future.result(5)


@pytest.fixture
def task() -> GenerationTask:
    return new_task(Chat())

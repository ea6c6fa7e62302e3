"""Async sources, on the event loop of the process."""

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from typing import Any

import aiohttp
import httpx
import openai
import pytest
from flask import Response, appcontext_tearing_down, current_app

from flask_chatstop import (
    ChatStopError,
    EndReason,
    GenerationTask,
    chat_response,
    current_task,
)
from flask_chatstop.generation import async_source
from flask_chatstop.generation.loop import source_loop
from flask_chatstop.generation.queue import QUEUE_SIZE
from flask_chatstop.testing import wait_until
from tests.support.apps import new_task
from tests.support.chat import AUTH, Answer, Chat
from tests.support.provider import Provider, provider
from tests.support.threads import threads_begun


@pytest.fixture
def task() -> GenerationTask:
    return new_task(Chat())


@pytest.fixture(autouse=True)
def no_asyncio_task_is_left() -> Iterator[None]:
    yield
    loop = source_loop().loop
    wait_until(lambda: not asyncio.all_tasks(loop))


async def count(stop: int) -> AsyncIterator[int]:
    for number in range(stop):
        yield number


def test_the_chunks_of_an_async_source_come_in_order(task: GenerationTask) -> None:
    assert list(task.stream(count(1_000))) == list(range(1_000))
    assert task.end_reason is EndReason.FINISHED


def test_an_async_source_takes_no_thread_of_its_own(task: GenerationTask) -> None:
    source_loop()
    go_on = asyncio.Event()

    async def source() -> AsyncIterator[str]:
        yield "One "
        await go_on.wait()

    with threads_begun() as begun, closing(task.stream(source())) as stream:
        assert next(stream) == "One "
    assert begun == []


@pytest.mark.parametrize("then", ["silence", "hold", "mute", "talk"])
def test_a_stop_cancels_an_async_source_whatever_it_waits_for(
    task: GenerationTask, silent: Provider, then: str
) -> None:
    silent.then = then
    raised: list[BaseException] = []
    over = threading.Event()

    async def source() -> AsyncIterator[str | None]:
        client = openai.AsyncOpenAI(base_url=silent.url, api_key="any")
        try:
            reply = await client.chat.completions.create(
                model="loopback",
                messages=[{"role": "user", "content": "hi"}],
                stream=True,
            )
            async for chunk in reply:
                yield chunk.choices[0].delta.content
        except BaseException as error:
            raised.append(error)
            raise
        finally:
            over.set()

    def stop() -> None:
        wait_until(lambda: bool(silent.calls))
        assert then == "talk" or silent.calls[0].silent.wait(5)
        task.stop()

    threading.Thread(target=stop).start()
    list(task.stream(source()))
    assert silent.calls[0].closed.wait(5)
    assert over.wait(5)
    assert isinstance(raised[0], asyncio.CancelledError | GeneratorExit)
    assert len(silent.calls) == 1
    assert task.end_reason is EndReason.STOPPED


async def read_httpx(url: str, left: list[Any]) -> AsyncIterator[bytes]:
    client = httpx.AsyncClient(timeout=None)
    reply = await client.send(client.build_request("POST", url), stream=True)
    left += [reply, client]
    async for part in reply.aiter_raw():
        yield part


async def read_aiohttp(url: str, left: list[Any]) -> AsyncIterator[bytes]:
    session = aiohttp.ClientSession()
    reply = await session.post(url)
    left += [reply, session]
    async for part in reply.content.iter_any():
        yield part


@pytest.mark.parametrize("then", ["silence", "talk"])
@pytest.mark.parametrize("read", [read_httpx, read_aiohttp])
def test_a_response_that_a_source_leaves_to_the_garbage_collector_is_hung_up_on(
    task: GenerationTask,
    silent: Provider,
    read: Callable[[str, list[Any]], AsyncIterator[bytes]],
    then: str,
) -> None:
    silent.then = then
    # As in a reference cycle of a library's, which may live for minutes.
    left: list[Any] = []
    given: list[bytes] = []

    async def source() -> AsyncIterator[bytes]:
        async for part in read(f"{silent.url}/chat/completions", left):
            given.append(part)
            yield part

    stream = task.stream(source())
    next(stream)
    # It is cancelled in a read, or closed between two of them.
    wait_until(lambda: then == "silence" or len(given) > QUEUE_SIZE)
    task.stop()
    list(stream)
    assert silent.calls[0].closed.wait(5)
    _, client = left
    close = getattr(client, "aclose", None) or client.close
    asyncio.run_coroutine_threadsafe(close(), source_loop().loop).result(5)


def test_a_client_that_leaves_cancels_the_source(task: GenerationTask) -> None:
    cancelled = threading.Event()

    async def source() -> AsyncIterator[str]:
        yield "One "
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    stream = task.stream(source())
    next(stream)
    stream.close()
    assert cancelled.wait(5)
    assert task.end_reason is EndReason.DISCONNECTED


def test_finally_blocks_run_with_their_awaits(
    task: GenerationTask, silent: Provider
) -> None:
    saved = threading.Event()

    async def source() -> AsyncIterator[str]:
        async with httpx.AsyncClient(timeout=None) as client:
            try:
                async with client.stream("POST", f"{silent.url}/chat") as reply:
                    async for text in reply.aiter_text():
                        yield text
            finally:
                silent.then = "end"
                await client.post(f"{silent.url}/save")
                saved.set()

    stream = task.stream(source())
    next(stream)
    task.stop()
    list(stream)
    assert saved.wait(5)


@pytest.mark.parametrize("how", ["gather", "shield", "to_thread", "task group"])
def test_what_is_saved_by_a_child_of_a_cancelled_source_arrives(
    task: GenerationTask, silent: Provider, how: str
) -> None:
    saved = threading.Event()
    url = f"{silent.url}/save"

    async def save(client: httpx.AsyncClient) -> None:
        if how == "to_thread":
            await asyncio.to_thread(httpx.post, url)
        elif how == "shield":
            await asyncio.shield(client.post(url))
        elif how == "gather":
            await asyncio.gather(client.post(url))
        else:
            async with asyncio.TaskGroup() as group:
                group.create_task(client.post(url))
        saved.set()

    async def source() -> AsyncIterator[str]:
        async with httpx.AsyncClient(timeout=None) as client:
            try:
                async with client.stream("POST", f"{silent.url}/chat") as reply:
                    async for text in reply.aiter_text():
                        yield text
            finally:
                silent.then = "end"
                await save(client)

    stream = task.stream(source())
    next(stream)
    task.stop()
    list(stream)
    assert saved.wait(5)


def test_a_worker_that_is_begun_in_a_shield_does_not_belong_to_the_task(
    task: GenerationTask, silent: Provider
) -> None:
    silent.then = "end"
    go_on, answered = threading.Event(), threading.Event()
    workers: list[asyncio.Task[None]] = []

    async def worker() -> None:
        await asyncio.to_thread(go_on.wait, 30)
        async with httpx.AsyncClient() as client:
            await client.post(f"{silent.url}/chat/completions")
        answered.set()

    async def source() -> AsyncIterator[str]:
        async with httpx.AsyncClient() as client:
            await client.post(f"{silent.url}/chat/completions")
        with current_task.shield():
            workers.append(asyncio.create_task(worker()))
        yield "One "
        await asyncio.sleep(60)

    stream = task.stream(source())
    next(stream)
    task.stop()
    list(stream)
    go_on.set()
    assert answered.wait(5)


def test_a_source_that_waits_for_its_reader_is_closed(task: GenerationTask) -> None:
    given: list[int] = []
    closed = threading.Event()

    async def source() -> AsyncIterator[int]:
        try:
            for number in range(10 * QUEUE_SIZE):
                given.append(number)
                yield number
        finally:
            await asyncio.sleep(0)
            closed.set()

    stream = task.stream(source())
    next(stream)
    wait_until(lambda: len(given) >= QUEUE_SIZE)
    assert len(given) <= QUEUE_SIZE + 1
    for _ in range(QUEUE_SIZE):
        next(stream)
    wait_until(lambda: len(given) > QUEUE_SIZE + 1)
    task.stop()
    assert list(stream) == []
    assert closed.wait(5)
    assert len(given) < 4 * QUEUE_SIZE


def test_a_source_that_ends_by_itself_has_time_to_close(task: GenerationTask) -> None:
    reported, saved = threading.Event(), threading.Event()

    class Source:
        def __aiter__(self) -> AsyncIterator[int]:
            return count(3)

        async def aclose(self) -> None:
            await asyncio.to_thread(reported.wait, 5)
            await asyncio.sleep(0.01)
            saved.set()

    assert list(task.stream(Source())) == [0, 1, 2]
    reported.set()
    assert saved.wait(5)


def test_a_source_that_swallows_its_cancellation_delays_nobody(
    task: GenerationTask,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(async_source, "BLOCKED_AFTER", 0.05)
    monkeypatch.setattr(async_source, "CLEANUP_TIME", 0.1)
    cancellations: list[int] = []

    async def stubborn() -> None:
        while len(cancellations) < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancellations.append(1)

    async def source() -> AsyncIterator[str]:
        yield "One "
        await stubborn()

    gone = threading.Event()
    task.on_source_end(gone.set)
    stream = task.stream(source())
    next(stream)
    task.stop()
    assert list(stream) == []
    assert not gone.is_set() or len(cancellations) == 2
    # Its time for cleaning up ends with another cancellation.
    assert gone.wait(5)
    assert "in stubborn" in caplog.text


def test_a_source_that_blocks_the_loop_is_named_in_the_log(
    task: GenerationTask,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(async_source, "BLOCKED_AFTER", 0.05)
    go_on = threading.Event()

    async def source() -> AsyncIterator[str]:
        yield "One "
        go_on.wait(30)

    stream = task.stream(source())
    next(stream)
    task.stop()
    assert list(stream) == []
    wait_until(lambda: "The event loop of the async sources is blocked" in caplog.text)
    go_on.set()
    assert "asyncio.to_thread()" in caplog.text


@pytest.mark.parametrize("error", [ValueError("no"), asyncio.CancelledError()])
def test_what_an_async_source_raises_is_raised_by_the_stream(
    task: GenerationTask, error: BaseException
) -> None:
    async def source() -> AsyncIterator[str]:
        yield "One "
        raise error

    stream = task.stream(source())
    next(stream)
    with pytest.raises((ValueError, ChatStopError)):
        next(stream)
    assert task.end_reason is EndReason.FAILED


def test_context_variables_and_the_app_are_those_of_the_caller() -> None:
    chat = Chat()
    task = new_task(chat)
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("the caller's")
    torn_down: list[object] = []

    async def source() -> AsyncIterator[str]:
        yield variable.get()
        await asyncio.sleep(0)
        yield current_app.name

    def note(app: object, exc: object = None) -> None:
        torn_down.append(app)

    with appcontext_tearing_down.connected_to(note, chat.app):
        assert list(task.stream(source())) == ["the caller's", "chat"]
        wait_until(lambda: bool(torn_down))


def test_a_task_that_nobody_holds_is_ended_while_its_async_source_is_silent() -> None:
    task = new_task(Chat())
    cancelled = threading.Event()

    async def source() -> AsyncIterator[str]:
        yield "One "
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    stream = task.stream(source())
    next(stream)
    gone = weakref.ref(task)
    del task, stream
    gc.collect()
    assert cancelled.wait(10)
    wait_until(lambda: gc.collect() is not None and gone() is None)


def test_many_streams_share_a_client_of_the_module(silent: Provider) -> None:
    client = openai.AsyncOpenAI(base_url=silent.url, api_key="any")
    chat = Chat()
    silent.then = "end"

    async def source() -> AsyncIterator[str | None]:
        reply = await client.chat.completions.create(
            model="loopback", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        async for chunk in reply:
            yield chunk.choices[0].delta.content

    for _ in range(3):
        streams = [new_task(chat).stream(source()) for _ in range(5)]
        assert all("".join(map(str, s)) == "One two three " for s in streams)
    asyncio.run_coroutine_threadsafe(client.close(), source_loop().loop).result(5)


def test_a_sync_source_may_run_loops_of_its_own_beside_it(
    task: GenerationTask,
) -> None:
    waiting = task.stream(_wait_for_ever())
    assert next(waiting) == "One "

    def source() -> Iterator[int]:
        yield asyncio.run(asyncio.sleep(0, 7))

    assert list(new_task(Chat()).stream(source())) == [7]
    waiting.close()


async def _wait_for_ever() -> AsyncIterator[str]:
    yield "One "
    await asyncio.Event().wait()


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_both_kinds_of_sources_work_from_async_views(kind: str) -> None:
    chat = Chat()

    async def pieces() -> AsyncIterator[str]:
        yield "One "
        yield "two"

    @chat.app.post("/ask")
    @chat.chatstop.login_required
    async def ask() -> Response:
        await asyncio.sleep(0)
        task = chat.chatstop.start(user="alice")
        return chat_response(
            task,
            pieces() if kind == "async" else ["One ", "two"],
            on_end=chat.ends.append,
        )

    answer = Answer(chat.client.post("/ask", headers=AUTH))
    assert answer.rest()[-1]["metadata"]["end_reason"] == "finished"
    assert chat.ends[0].text == "One two"


def test_a_tool_deep_inside_an_async_source_knows_the_task(
    task: GenerationTask,
) -> None:
    async def tool() -> str:
        await asyncio.sleep(0)
        return current_task.id

    async def source() -> AsyncIterator[str]:
        yield await asyncio.create_task(tool())

    assert list(task.stream(source())) == [task.id]


def test_an_async_stream_that_is_stopped_before_it_is_read_reads_nothing(
    task: GenerationTask,
) -> None:
    begun: list[Any] = []

    async def source() -> AsyncIterator[int]:
        begun.append(1)
        yield 1

    stream = task.stream(source())
    task.stop()
    assert list(stream) == []
    assert begun == []


def test_1000_async_streams_wait_at_once_and_are_all_stopped() -> None:
    chat = Chat()
    tasks = [new_task(chat) for _ in range(1_000)]
    streams = [task.stream(_wait_for_ever()) for task in tasks]
    assert all(next(stream) == "One " for stream in streams)
    for task in tasks:
        task.stop()
    assert all(list(stream) == [] for stream in streams)


def test_the_provider_of_an_async_call_without_a_source_sees_its_end() -> None:
    """A library that runs a loop by itself is covered by the calls that it makes."""
    with provider("mute") as server:
        task = new_task(Chat())

        def source() -> Iterator[object]:
            async def ask() -> httpx.Response:
                async with httpx.AsyncClient(timeout=None) as client:
                    return await client.post(server.url)

            yield asyncio.run(ask())

        def stop() -> None:
            wait_until(lambda: bool(server.calls))
            task.stop()

        threading.Thread(target=stop).start()
        assert list(task.stream(source())) == []
        assert server.calls[0].closed.wait(5)

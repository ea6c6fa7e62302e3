"""Calls of aiohttp, which litellm and others use below their async clients."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from flask_chatstop import GenerationTask, SourceStopped, current_task
from flask_chatstop.generation.loop import source_loop
from tests.providers.speaker import speaker
from tests.support.apps import new_task
from tests.support.chat import Chat
from tests.support.provider import Provider


@pytest.fixture
def task() -> GenerationTask:
    return new_task(Chat())


@pytest.fixture
def session() -> Iterator[aiohttp.ClientSession]:
    """One for many streams, on their event loop."""

    async def make() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1))

    loop = source_loop().loop
    shared = asyncio.run_coroutine_threadsafe(make(), loop).result(5)
    yield shared
    asyncio.run_coroutine_threadsafe(shared.close(), loop).result(5)


def test_a_response_that_is_left_open_gives_its_place_in_the_pool_back(
    task: GenerationTask, silent: Provider, session: aiohttp.ClientSession
) -> None:
    left: list[aiohttp.ClientResponse] = []

    async def source() -> AsyncIterator[bytes]:
        left.append(await session.post(f"{silent.url}/chat/completions"))
        async for part in left[-1].content.iter_any():
            yield part

    for asking in (task, new_task(Chat())):
        stream = asking.stream(source())
        assert next(stream)
        asking.stop()
        list(stream)
        assert silent.calls[-1].closed.wait(5)
    assert len(silent.calls) == 2


def test_an_answer_that_ends_with_its_connection_is_not_taken_for_whole(
    task: GenerationTask,
) -> None:
    raised: list[BaseException] = []
    over = threading.Event()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        async def ask() -> bytes:
            async with aiohttp.ClientSession() as session, session.get(url) as reply:
                assert await reply.content.readany() == b"One "
                # No async source, so nothing cancels it.
                threading.Thread(target=task.stop).start()
                return await reply.read()

        def source() -> Iterator[bytes]:
            try:
                yield asyncio.run(ask())
            except BaseException as error:
                raised.append(error)
                raise
            finally:
                over.set()

        stream = task.stream(source())
        reading = threading.Thread(target=lambda: list(stream))
        reading.start()
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nOne ")
            assert over.wait(5)
        reading.join(5)
    assert isinstance(raised[0], SourceStopped)


def test_a_request_that_waits_for_a_connection_is_not_sent_after_the_stop(
    task: GenerationTask, silent: Provider, session: aiohttp.ClientSession
) -> None:
    url = f"{silent.url}/chat/completions"
    asking: list[asyncio.Task[aiohttp.ClientResponse]] = []
    over = threading.Event()

    async def source() -> AsyncIterator[str]:
        with current_task.shield():
            first = await session.post(url)
        asking.append(asyncio.create_task(_post(session, url)))
        await asyncio.sleep(0)
        yield "waiting"
        try:
            await asyncio.Event().wait()
        finally:
            # The only place in the pool is free.
            first.close()
            await asyncio.wait(asking)
            over.set()

    stream = task.stream(source())
    next(stream)
    task.stop()
    assert list(stream) == []
    assert over.wait(5)
    assert isinstance(asking[0].exception(), SourceStopped)
    assert len(silent.calls) == 1


async def _post(session: aiohttp.ClientSession, url: str) -> aiohttp.ClientResponse:
    return await session.post(url)


def test_what_a_cancelled_source_saves_arrives(
    task: GenerationTask, silent: Provider
) -> None:
    saved = threading.Event()

    async def source() -> AsyncIterator[bytes]:
        async with aiohttp.ClientSession() as session:
            try:
                async with session.post(f"{silent.url}/chat") as reply:
                    async for part in reply.content.iter_any():
                        yield part
            finally:
                silent.then = "end"
                async with session.post(f"{silent.url}/save") as reply:
                    assert b"[DONE]" in await reply.read()
                saved.set()

    stream = task.stream(source())
    next(stream)
    task.stop()
    list(stream)
    assert saved.wait(5)


def test_a_websocket_that_others_may_share_is_left_alone(
    task: GenerationTask, silent: Provider
) -> None:
    async def source(url: str) -> AsyncIterator[str]:
        async with aiohttp.ClientSession() as session:
            shared.append(await session.ws_connect(url))
            # What tells this test that the stop has hung up.
            left.append(await session.post(f"{silent.url}/chat/completions"))
            yield "One "
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.to_thread(silent.calls[0].closed.wait, 5)
                await shared[0].send_str("still here")
                await shared[0].close()

    shared: list[aiohttp.ClientWebSocketResponse] = []
    left: list[aiohttp.ClientResponse] = []
    with speaker() as hearer:
        stream = task.stream(source(hearer.url))
        next(stream)
        task.stop()
        list(stream)
        assert hearer.has_left.wait(10)
    assert hearer.heard == ["still here"]
    assert hearer.close_code == 1000

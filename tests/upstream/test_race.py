"""Stops that are aimed at the moment of completion hit nobody else's connection."""

import asyncio
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import aiohttp
import httpx
import httpx2
import pytest
import requests
from requests.adapters import HTTPAdapter

from tests.support.apps import new_task
from tests.support.chat import Chat
from tests.support.short_answers import ShortAnswers

#: Calls of innocent threads in one run; 100,000 in the long run.
CALLS = int(os.environ.get("CHATSTOP_RACE_CALLS", "3000"))
THREADS = 24

Post = Callable[[str], bytes]


@pytest.fixture
def answers() -> Iterator[ShortAnswers]:
    with ShortAnswers() as server:
        yield server


@contextmanager
def by_httpx() -> Iterator[Post]:
    limits = httpx.Limits(max_connections=THREADS + 8)
    with httpx.Client(limits=limits, timeout=60) as client:
        yield lambda url: client.post(url).content


@contextmanager
def by_httpx2() -> Iterator[Post]:
    limits = httpx2.Limits(max_connections=THREADS + 8)
    with httpx2.Client(limits=limits, timeout=60) as client:
        yield lambda url: client.post(url).content


@contextmanager
def by_requests() -> Iterator[Post]:
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(pool_maxsize=THREADS + 8))
        yield lambda url: session.post(url, timeout=60).content


@contextmanager
def by_aiohttp() -> Iterator[Post]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def make() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=THREADS + 8)
        return aiohttp.ClientSession(connector=connector)

    async def post(url: str) -> bytes:
        async with session.post(url) as reply:
            return await reply.read()

    session = asyncio.run_coroutine_threadsafe(make(), loop).result(10)
    yield lambda url: asyncio.run_coroutine_threadsafe(post(url), loop).result(60)
    asyncio.run_coroutine_threadsafe(session.close(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.mark.slow
@pytest.mark.parametrize("make", [by_httpx, by_httpx2, by_requests, by_aiohttp])
def test_no_innocent_call_fails_when_stops_meet_completion(
    answers: ShortAnswers, make: Callable[[], AbstractContextManager[Post]]
) -> None:
    with make() as post:
        _race(answers, post)


def _race(answers: ShortAnswers, post: Post) -> None:
    chat = Chat()
    left = iter(range(CALLS))
    lock, failures, over = threading.Lock(), list[BaseException](), threading.Event()
    stopped: list[int] = []

    def innocent() -> None:
        """Work for no task, or for one that nobody stops."""
        task = new_task(chat) if random.random() < 0.5 else None
        call = post if task is None else task.bind(post)
        while True:
            with lock:
                if next(left, None) is None:
                    break
            try:
                assert call(answers.url) == answers.body
            except BaseException as error:
                failures.append(error)
        if task is not None:
            task.end("finished")

    def stop_at_completion() -> None:
        while not over.is_set():
            task, is_over = new_task(chat), threading.Event()
            stream = task.stream(_ask(post, answers.url, is_over))
            next(stream)
            # Any moment of the second call, most of all its last.
            over.wait(random.uniform(0, 4 * answers.seconds))
            stopped.append(task.stop())
            assert list(stream) is not None
            assert is_over.wait(10)

    innocents = [threading.Thread(target=innocent) for _ in range(THREADS)]
    stoppers = [threading.Thread(target=stop_at_completion) for _ in range(2)]
    for thread in innocents + stoppers:
        thread.start()
    for thread in innocents:
        thread.join()
    over.set()
    for thread in stoppers:
        thread.join(20)
    assert failures == []
    assert sum(stopped) > 10, "hardly any stop met a running call"
    assert post(answers.url) == answers.body, "the pool is not usable any more"


def _ask(post: Post, url: str, is_over: threading.Event) -> Iterator[bytes]:
    try:
        while True:
            yield post(url)
    finally:
        is_over.set()

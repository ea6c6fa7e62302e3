"""The threads of a worker, whatever is raised in them and however they go."""

import ctypes
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from flask import request
from gevent import GreenletExit, Timeout
from sqlalchemy import create_engine, make_url

from flask_chatstop.backends.database import DatabaseBackend
from flask_chatstop.testing import wait_until
from flask_chatstop.threads import start_thread
from tests.support.resetting_proxy import ResettingProxy
from tests.support.worker_app import WorkerApp

NAMES = {"chatstop_listener", "chatstop_reconciler"}
#: Nothing is swept by the clock.
NEVER = 60.0
#: The functions in which the listener of SQLite and the reconciler wait.
WAITING = {"wait", "_receive"}
ANY_KIND = [Timeout, GreenletExit, SystemExit, MemoryError, ZeroDivisionError]


@pytest.fixture
def proxy(postgresql_url: str) -> Iterator[ResettingProxy]:
    with ResettingProxy(make_url(postgresql_url).port or 5432) as proxy:
        yield proxy


@pytest.fixture
def elsewhere(postgresql_url: str) -> Iterator[WorkerApp]:
    app = WorkerApp(postgresql_url, sweep_interval=NEVER)
    yield app
    app.close()


@pytest.fixture
def behind(postgresql_url: str, proxy: ResettingProxy) -> str:
    url = make_url(postgresql_url).set(host="127.0.0.1", port=proxy.port)
    return url.render_as_string(hide_password=False)


@pytest.mark.parametrize("kind", ANY_KIND)
def test_an_engine_that_raises_anything_ends_no_thread_for_good(
    kind: type[BaseException], behind: str, proxy: ResettingProxy, elsewhere: WorkerApp
) -> None:
    raised_in: set[str] = set()
    is_broken = threading.Event()

    def connect() -> Any:
        if is_broken.is_set():
            raised_in.add(threading.current_thread().name)
            raise kind
        return psycopg.connect(behind.replace("+psycopg", ""))

    engine = create_engine(behind, creator=connect)
    app = WorkerApp(DatabaseBackend(engine), sweep_interval=NEVER)
    chat = app.chat()
    is_broken.set()
    proxy.refuse()
    # Nothing else asks the store now.
    app.worker._running.look_again()
    wait_until(lambda: raised_in >= NAMES)
    assert elsewhere.stop(chat).headers["Chatstop-Outcome"] == "stopping"
    assert chat.goes_on()
    is_broken.clear()
    proxy.admit()
    assert chat.ended.wait(10)
    app.close()
    engine.dispose()


def test_a_log_filter_that_needs_a_request_ends_no_thread(
    behind: str, proxy: ResettingProxy, elsewhere: WorkerApp
) -> None:
    failed_in: set[str] = set()

    def add_path(record: logging.LogRecord) -> bool:
        failed_in.add(threading.current_thread().name)
        record.path = request.path
        return True

    handler = logging.StreamHandler()
    handler.addFilter(add_path)
    logger = logging.getLogger("flask_chatstop")
    app = WorkerApp(behind, sweep_interval=NEVER)
    logger.addHandler(handler)
    try:
        chat = app.chat()
        proxy.refuse()
        app.worker._running.look_again()
        wait_until(lambda: failed_in >= NAMES)
        assert elsewhere.stop(chat).headers["Chatstop-Outcome"] == "stopping"
        proxy.admit()
        assert chat.ended.wait(10)
        app.close()
    finally:
        logger.removeHandler(handler)


def test_a_log_filter_that_fails_hides_no_error_and_raises_none_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    printed: list[str] = []

    def has_printed(text: str) -> bool:
        printed.append(capsys.readouterr().err)
        return text in "".join(printed)

    def fail(record: logging.LogRecord) -> bool:
        raise ValueError("a filter")

    def act() -> None:
        raise KeyError("a thread of the package")

    handler = logging.StreamHandler()
    handler.addFilter(fail)
    logger = logging.getLogger("flask_chatstop")
    logger.addHandler(handler)
    try:
        start_thread(act)
        wait_until(lambda: has_printed("ValueError: a filter"))
    finally:
        logger.removeHandler(handler)
    assert has_printed("KeyError: 'a thread of the package'")


def thread(name: str, others: set[threading.Thread]) -> threading.Thread:
    """Give the thread of this name that is not one of other workers'."""

    def found() -> list[threading.Thread]:
        return [x for x in set(threading.enumerate()) - others if x.name == name]

    wait_until(lambda: len(found()) == 1)
    return found()[0]


def waits(thread: threading.Thread) -> bool:
    """Tell whether a worker's thread waits for its next call of the store."""
    frame = sys._current_frames().get(thread.ident or 0)
    return frame is not None and frame.f_code.co_name in WAITING


def raise_in(thread: threading.Thread, kind: type[BaseException]) -> None:
    """Raise an error in a thread when it waits.

    Elsewhere, the error could strike between the call that opens a socket and the
    assignment of its result: no code can close that socket.
    """
    wait_until(lambda: waits(thread))
    assert thread.ident is not None
    ident, error = ctypes.c_ulong(thread.ident), ctypes.py_object(kind)
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, error) == 1


@pytest.fixture
def two(sqlite_url: str) -> Iterator[tuple[WorkerApp, WorkerApp]]:
    apps = [WorkerApp(sqlite_url, sweep_interval=0.1) for _ in range(2)]
    yield apps[0], apps[1]
    for app in apps:
        app.close()


@pytest.mark.parametrize("kind", ANY_KIND)
@pytest.mark.parametrize("name", sorted(NAMES))
def test_an_error_between_two_calls_of_the_store_ends_no_thread_for_good(
    two: tuple[WorkerApp, WorkerApp], name: str, kind: type[BaseException]
) -> None:
    app, elsewhere = two
    others = set(threading.enumerate())
    chat = app.chat()
    raised = threading.Event()

    class Raised(kind):  # type: ignore[valid-type,misc]
        def __init__(self, *args: object) -> None:
            super().__init__(*args)
            raised.set()

    Raised.__name__ = kind.__name__
    raise_in(thread(name, others), Raised)
    assert raised.wait(10)
    for each in NAMES:
        thread(each, others)
    assert elsewhere.stop(chat).headers["Chatstop-Outcome"] == "stopping"
    assert chat.ended.wait(10)

"""The one thread that watches the time limits of a worker."""

import threading
from collections.abc import Iterator

import pytest

from flask_chatstop.testing import new_record, wait_until
from flask_chatstop.worker.time_limits import TimeLimits
from tests.support.scripts import run

_THREAD = "chatstop_time_limits"


class Limited:
    """A task that notes that its time is over, or raises errors first."""

    def __init__(self, *errors: BaseException) -> None:
        self.record = new_record()
        self.errors = list(errors)
        self.is_over = threading.Event()

    def time_out(self) -> None:
        if self.errors:
            raise self.errors.pop()
        self.is_over.set()


@pytest.fixture
def limits() -> Iterator[TimeLimits]:
    limits = TimeLimits()
    yield limits
    limits.close()


def watching() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == _THREAD}


def test_ten_thousand_limits_take_one_thread(limits: TimeLimits) -> None:
    others = watching()
    tasks = [Limited() for _ in range(10_000)]
    for number, task in enumerate(tasks):
        limits.add(task, 20_000 - number)
    last = Limited()
    limits.add(last, 0.001)
    assert last.is_over.wait(10)
    assert len(watching() - others) == 1
    assert not any(task.is_over.is_set() for task in tasks)


def test_limits_end_in_their_order_and_not_in_that_of_their_coming(
    limits: TimeLimits,
) -> None:
    late, early = Limited(), Limited()
    limits.add(late, 0.1)
    limits.add(early, 0.001)
    assert early.is_over.wait(10)
    assert late.is_over.wait(10)


def test_a_limit_that_fails_harms_no_other(
    limits: TimeLimits, caplog: pytest.LogCaptureFixture
) -> None:
    ill, well = Limited(RuntimeError("ill")), Limited()
    limits.add(ill, 0.001)
    limits.add(well, 0.002)
    assert well.is_over.wait(10)
    assert f"The time limit of task {ill.record.task_id!r} failed." in caplog.text


class Interruption(BaseException):
    """What gevent may raise in any thread."""


@pytest.mark.parametrize("error", [Interruption(), SystemExit()])
def test_what_hits_the_thread_loses_no_limit(
    limits: TimeLimits, error: BaseException
) -> None:
    task = Limited(error)
    limits.add(task, 0.001)
    assert task.is_over.wait(10)


def test_a_task_that_has_ended_is_left_alone_and_forgotten(limits: TimeLimits) -> None:
    ended = [Limited() for _ in range(3000)]
    for task in ended:
        limits.add(task, 3600)
        limits.forget(task.record.task_id)
    first = Limited()
    limits.add(first, 0.001)
    limits.forget(first.record.task_id)
    second = Limited()
    limits.add(second, 0.01)
    assert second.is_over.wait(10)
    assert not first.is_over.is_set()
    wait_until(lambda: len(limits._heap) <= 1001)


def test_the_thread_ends_when_nothing_is_limited(
    limits: TimeLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_chatstop.worker.time_limits._IDLE", 0.01)
    for _ in range(2):
        task = Limited()
        limits.add(task, 0.001)
        assert task.is_over.wait(10)
        wait_until(lambda: not limits._loops._threads)


_APP = """
        from tests.support.chat import Chat, Source
        from flask_chatstop import chat_response

        chat = Chat()

        def ask(time_limit):
            with chat.app.app_context():
                task = chat.chatstop.start(
                    user="alice", app="demo", time_limit=time_limit
                )
                return task, chat_response(task, Source("One ")()).response

        def end(answer):
            return list(answer)[-1].split(b'"end_reason":"')[1][:9].decode()
"""


def test_limits_hold_in_a_forked_child_and_let_a_process_exit() -> None:
    printed = run(
        _APP
        + """
        import os

        task, answer = ask(0.5)
        child = os.fork()
        if child == 0:
            assert end(ask(0.01)[1]) == "timed_out"
            assert not task.stopped
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print(end(answer))
        kept = ask(3600)
        """
    )
    assert printed == "timed_out\n"


def test_limits_hold_under_gevent_that_patches_after_the_registration() -> None:
    printed = run(
        _APP
        + """
        from gevent import monkey
        monkey.patch_all()
        print(end(ask(0.01)[1]))
        """
    )
    assert printed == "timed_out\n"

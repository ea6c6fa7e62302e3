"""Waiting for what other threads do, without a fixed time."""

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from queue import SimpleQueue

from flask_chatstop.backends import StopBackend, TaskRecord


def wait_until(is_true: Callable[[], bool], seconds: float = 30.0) -> None:
    """Return as soon as a condition is true.

    :raises AssertionError: it was not true within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        threading.Event().wait(0.005)


@contextmanager
def listening(
    backend: StopBackend, records: Collection[TaskRecord]
) -> Iterator[SimpleQueue[str]]:
    """Listen for one worker in a thread; the queue gets the ids of stopped tasks."""
    bell: SimpleQueue[str] = SimpleQueue()
    ready, closing = threading.Event(), threading.Event()

    def heard(task_ids: Collection[str]) -> None:
        for task_id in task_ids:
            bell.put(task_id)
        ready.set()

    worker_id = next(record.worker_id for record in records)
    task_ids = [record.task_id for record in records]
    thread = threading.Thread(
        target=backend.listen, args=(worker_id, lambda: task_ids, heard, closing)
    )
    thread.start()
    try:
        assert ready.wait(5), "heard was not called when the listening began"
        yield bell
    finally:
        closing.set()
        thread.join()


def drain(bell: "SimpleQueue[str]") -> list[str]:
    """Take the ids that have arrived by now."""
    return [bell.get() for _ in range(bell.qsize())]

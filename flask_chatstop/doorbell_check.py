"""Whether a stop is heard, by way of the store, for ``flask chatstop check``."""

import threading
import time
import uuid
from collections.abc import Collection

from flask_chatstop.backends import EndReason, Owner, StopBackend, TaskRecord
from flask_chatstop.errors import BackendError


def time_to_hear(backend: StopBackend) -> float:
    """Return the seconds from the stop of a task of our own until it is heard.

    :raises BackendError: it is not heard, or the store failed.
    """
    owner = Owner("flask chatstop", "check", "check")
    record = TaskRecord(f"check-{uuid.uuid4()}", owner, uuid.uuid4().hex)
    listening, is_heard, closing = (threading.Event() for _ in range(3))
    failures: list[BackendError] = []

    def heard(task_ids: Collection[str]) -> None:
        if record.task_id in task_ids:
            is_heard.set()
        listening.set()

    def listen() -> None:
        try:
            backend.listen(record.worker_id, lambda: [record.task_id], heard, closing)
        except BackendError as error:
            failures.append(error)
            listening.set()

    threading.Thread(target=listen, daemon=True).start()
    listening.wait(2 * backend.timeout)
    backend.announce(record)
    backend.renew([record])
    began = time.perf_counter()
    backend.stop(record.task_id, owner)
    was_heard = is_heard.wait(2 * backend.timeout)
    took = time.perf_counter() - began
    is_swept = backend.stops(record.worker_id, [record.task_id])
    backend.end(record, EndReason.STOPPED)
    closing.set()
    if not is_swept:
        raise BackendError("The store has taken a stop, but a sweep does not find it.")
    if not was_heard:
        reason = failures[0] if failures else "no notification came"
        raise BackendError(f"The store answers, but a stop is not heard: {reason}")
    return took

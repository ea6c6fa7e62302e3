"""Whether a stop is heard, by way of the store, for ``flask chatstop check``."""

import threading
import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass

from flask_chatstop.backends import EndReason, Owner, StopBackend, TaskRecord
from flask_chatstop.errors import BackendError, ChatStopError

# Seconds in which a listener that gets no notifications polls several times, and one
# that does polls once at most.
_WINDOW = 0.5


@dataclass(frozen=True, slots=True)
class Hearing:
    """How a stop was heard.

    :param seconds: from the stop on.
    :param is_polled: whether the listener polls, since no notification arrives.
    """

    seconds: float
    is_polled: bool


def hear_a_stop(backend: StopBackend) -> Hearing:
    """Stop a task of our own, and return how it was heard.

    :raises BackendError: it is not heard, or the store failed.
    """
    owner = Owner("flask chatstop", "check", "check")
    record = TaskRecord(f"check-{uuid.uuid4()}", owner, uuid.uuid4().hex)
    listening, is_heard, closing = (threading.Event() for _ in range(3))
    failures: list[ChatStopError] = []
    polls: list[float] = []

    def running() -> Collection[str]:
        polls.append(time.monotonic())
        return [record.task_id]

    def heard(task_ids: Collection[str]) -> None:
        if record.task_id in task_ids:
            is_heard.set()
        listening.set()

    def listen() -> None:
        try:
            backend.listen(record.worker_id, running, heard, closing)
        except ChatStopError as error:
            failures.append(error)
            listening.set()

    threading.Thread(target=listen, daemon=True).start()
    listening.wait(2 * backend.timeout)
    is_polled = _goes_on(polls, backend.timeout)
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
    return Hearing(took, is_polled)


def _goes_on(polls: list[float], seconds: float) -> bool:
    """Return whether there are polls for so long; the first ones end the doubt."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        before = len(polls)
        time.sleep(_WINDOW)
        if len(polls) - before < 2:
            return False
    return True

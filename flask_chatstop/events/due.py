"""The answers that a worker is to write: which of them, when, and how many at once."""

import math
import queue
import time
from collections.abc import Iterator

from flask_chatstop.events.answer import AT_ONCE, LoggedAnswer

#: Seconds between two calls that add frames.
_BATCH = 0.05
#: Seconds that an end waits until its client has got it. The thread that sends it
#: would get the interpreter later, with another one to run, and the client its last
#: bytes.
_LAST_BYTES = 0.005
#: Answers that one call adds to.
_LOGS = 200
#: Bytes of all answers that wait in memory while the store is away.
_MEMORY = 64 * 1024 * 1024


class DueAnswers:
    """The answers that are to be written, in the order in which they were put.

    Any thread puts them. All else is for the writer's thread.
    """

    def __init__(self) -> None:
        # The garbage collector may end a task, and so put something, in a thread that
        # holds a lock. SimpleQueue is the only queue that allows it.
        self._inbox: queue.SimpleQueue[LoggedAnswer | None] = queue.SimpleQueue()
        self._answers: dict[LoggedAnswer, None] = {}
        self._written_at = time.monotonic()

    def __len__(self) -> int:
        return len(self._answers)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is to be written, and nothing was put meanwhile."""
        return not self._answers and self._inbox.empty()

    @property
    def is_outdated(self) -> bool:
        """Whether gevent has patched queues since."""
        return not isinstance(self._inbox, queue.SimpleQueue)

    def put(self, answer: LoggedAnswer) -> None:
        """Have an answer written soon, or at once if it is over."""
        self._inbox.put(answer)

    def wake(self) -> None:
        """End the wait of :meth:`receive`."""
        self._inbox.put(None)

    def receive(self, seconds: float) -> bool:
        """Wait for something to write, then a moment for more; tell if it has come."""
        until = math.inf
        try:
            answer = self._inbox.get(timeout=seconds)
            while answer is not None:
                self._answers[answer] = None
                until = min(until, self._due_at(answer))
                left = until - time.monotonic()
                if left <= 0:
                    break
                answer = self._inbox.get(timeout=left)
        except queue.Empty:
            pass
        self.drain()
        return bool(self._answers)

    def drain(self) -> None:
        """Take what was put."""
        try:
            while True:
                answer = self._inbox.get_nowait()
                if answer is not None:
                    self._answers[answer] = None
        except queue.Empty:
            return

    def batches(self) -> Iterator[list[LoggedAnswer]]:
        """Yield the answers that one call adds to, until :meth:`drop` has left none."""
        self._written_at = time.monotonic()
        while self._answers:
            yield self._next_batch()

    def drop(self, answer: LoggedAnswer) -> None:
        """Note that all of an answer is written."""
        self._answers.pop(answer, None)

    def beyond_memory(self) -> list[LoggedAnswer]:
        """Return the oldest answers, without which the others fit into the limit."""
        size = sum(answer.waiting_bytes for answer in self._answers)
        oldest = []
        for answer in self._answers:
            if size <= _MEMORY:
                break
            size -= answer.waiting_bytes
            oldest.append(answer)
        return oldest

    def _due_at(self, answer: LoggedAnswer) -> float:
        """Return until when more may come before an answer is written."""
        if answer.is_urgent:
            return 0.0  # somebody may come for an answer as soon as it has begun
        if answer.is_over:
            return answer.ended_at + _LAST_BYTES
        return self._written_at + _BATCH

    def _next_batch(self) -> list[LoggedAnswer]:
        answers: list[LoggedAnswer] = []
        size = 0
        for answer in self._answers:
            size += answer.waiting_bytes
            if answers and (size > AT_ONCE or len(answers) == _LOGS):
                break
            answers.append(answer)
        return answers

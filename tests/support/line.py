"""What leads from one worker to its store in a test, and what may go wrong on it."""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Lock
from typing import Any

from flask_chatstop import (
    BackendError,
    EndReason,
    Owner,
    StopBackend,
    StopOutcome,
    TaskInfo,
    TaskRecord,
)


class Line(StopBackend):
    """It can be cut, lose its rings, and end the threads of its worker by errors."""

    def __init__(self, store: StopBackend) -> None:
        super().__init__(
            lease=store.lease, retention=store.retention, timeout=store.timeout
        )
        self._store = store
        self.is_cut = False
        self.is_deaf = False
        #: Rings that have not been heard: they are lost, or late.
        self.unheard: set[str] = set()
        #: What is raised in a thread of the worker, by its name, when it comes here.
        self.errors: dict[str, type[BaseException]] = {}
        self._heard: Callable[[Collection[str]], None] | None = None
        self._lock = Lock()
        self._calls = 0

    @property
    def is_quiet(self) -> bool:
        """Whether no call is under way that went out before the line was cut."""
        return self._calls == 0

    def ring_late(self) -> None:
        """Let the worker hear what it did not."""
        unheard, self.unheard = self.unheard, set()
        if self._heard is not None:
            self._heard(unheard)

    def announce(self, record: TaskRecord) -> bool:
        with self._reached() as store:
            return store.announce(record)

    def renew(self, records: Sequence[TaskRecord]) -> set[str]:
        with self._reached() as store:
            return store.renew(records)

    def stop(self, task_id: str, owner: Owner) -> StopOutcome:
        with self._reached() as store:
            return store.stop(task_id, owner)

    def end(self, record: TaskRecord, reason: EndReason) -> bool:
        with self._reached() as store:
            return store.end(record, reason)

    def stops(self, worker_id: str, task_ids: Collection[str]) -> set[str]:
        with self._reached() as store:
            return store.stops(worker_id, task_ids)

    def tasks(self, **wanted: Any) -> list[TaskInfo]:
        with self._reached() as store:
            return store.tasks(**wanted)

    def listen(
        self,
        worker_id: str,
        running: Callable[[], Collection[str]],
        heard: Callable[[Collection[str]], None],
        closing: Event,
    ) -> None:
        def running_unless_it_fails() -> Collection[str]:
            self._fail_if_told()
            return running()

        def heard_unless_deaf(task_ids: Collection[str]) -> None:
            self._fail_if_told()
            if self.is_deaf or self.is_cut:
                self.unheard.update(task_ids)
            else:
                heard(task_ids)

        self._heard = heard
        with self._reached():
            pass
        self._store.listen(
            worker_id, running_unless_it_fails, heard_unless_deaf, closing
        )

    def check(self) -> None:
        with self._reached() as store:
            store.check()

    def close(self) -> None:
        self._store.close()

    @contextmanager
    def _reached(self) -> Iterator[StopBackend]:
        self._fail_if_told()
        self._count(1)  # before the look: it may be cut meanwhile
        try:
            if self.is_cut:
                raise BackendError("the line is cut")
            yield self._store
        finally:
            self._count(-1)

    def _fail_if_told(self) -> None:
        if error := self.errors.pop(threading.current_thread().name, None):
            raise error

    def _count(self, calls: int) -> None:
        with self._lock:
            self._calls += calls

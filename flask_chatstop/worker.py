"""The running tasks of this process, and the threads that keep and hear them."""

import atexit
import logging
import os
import queue
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Collection
from typing import Protocol
from weakref import WeakSet, WeakValueDictionary

from flask_chatstop.backends import (
    EndReason,
    Owner,
    StopBackend,
    StopOutcome,
    TaskRecord,
)
from flask_chatstop.errors import BackendError, TaskExists

logger = logging.getLogger(__name__)

_Ends = deque[tuple[TaskRecord, EndReason]]


class Running(Protocol):
    """What the worker needs to know of a task."""

    @property
    def record(self) -> TaskRecord: ...

    def stop(self) -> bool: ...

    def end(self, reason: EndReason) -> bool: ...


class Worker:
    """One process of the app: its running tasks, known to the store and stoppable.

    Tasks are held weakly: whoever runs a generation holds its task. Two daemon
    threads begin with the first task and end a while after the last one: the keeper
    reports ends, renews, and sweeps for lost stops; the doorbell hears stops.

    :param sweep_interval: seconds between two looks for stops whose ring was lost.
    """

    def __init__(self, backend: StopBackend, *, sweep_interval: float = 5.0) -> None:
        self.backend = backend
        self.sweep_interval = sweep_interval
        self._begin()
        _workers.add(self)

    def _begin(self) -> None:
        self.id = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._tasks: WeakValueDictionary[str, Running] = WeakValueDictionary()
        # The garbage collector puts abandoned tasks in here, and may do so while the
        # thread it interrupts holds a lock: of all queues only this one allows it.
        self._inbox: queue.SimpleQueue[
            tuple[TaskRecord, EndReason] | Running | None
        ] = queue.SimpleQueue()
        self._closing: threading.Event | None = None
        self._exiting = False
        self._store = _Link("the store of running tasks")
        self._renew_at = self._sweep_at = 0.0

    def after_fork(self) -> None:
        """Begin anew in a forked child: the tasks and threads are the parent's."""
        self._begin()
        self.backend.after_fork()

    def start(self, task: Running) -> None:
        """Make a task stoppable from every worker.

        With the store out of reach the task runs all the same, is logged, and is
        announced when the store is back.

        :raises TaskExists: the id is running or was in use within the retention.
        """
        record = task.record
        with self._lock:
            if record.task_id in self._tasks:
                raise TaskExists(f"The task id {record.task_id!r} is running.")
            self._tasks[record.task_id] = task
            self._run()
        if self._store.is_up:
            try:
                if self.backend.announce(record):
                    return
            except BackendError as error:
                self._lost(error)
            else:
                with self._lock:
                    self._forget(task)
                raise TaskExists(f"The task id {record.task_id!r} is taken.")
        logger.warning(
            "Task %s runs, but only this process can stop it until the store is back.",
            record.task_id,
        )

    def stop(self, task_id: str, owner: Owner) -> StopOutcome:
        """Stop a task wherever it runs; one that runs here ends now, store or not.

        :raises BackendError: the store failed, and the task does not run here.
        """
        task = self._tasks.get(task_id)
        here = task is not None and task.record.owner == owner and task.stop()
        try:
            outcome = self.backend.stop(task_id, owner)
        except BackendError as error:
            self._lost(error)
            if not here:
                raise
            outcome = StopOutcome.MISSING
        # A store that is away or came back empty does not know the task, but we do.
        return StopOutcome.STOPPING if here else outcome

    def ended(self, task: Running, reason: EndReason) -> None:
        """Have the keeper report an end to the store; returns at once."""
        with self._lock:
            self._forget(task)
            self._inbox.put((task.record, reason))
            self._run()

    def abandon(self, task: Running) -> None:
        """Have the keeper end a task that nobody holds any more.

        Called by the garbage collector, at any moment and in any thread.
        """
        self._inbox.put(task)

    def close(self) -> None:
        """End what still runs as failed and report all ends; for the exit."""
        for task in self._running():
            task.end(EndReason.FAILED)
        with self._lock:
            closing = self._closing
        if closing is not None:
            self._exiting = True
            self._inbox.put(None)
            closing.wait(2 * self.backend.timeout)

    def _running(self) -> list[Running]:
        with self._lock:
            return list(self._tasks.values())

    def _running_ids(self) -> list[str]:
        return [task.record.task_id for task in self._running()]

    def _forget(self, task: Running) -> None:
        if self._tasks.get(task.record.task_id) is task:
            del self._tasks[task.record.task_id]

    def _lost(self, error: BackendError) -> None:
        self._store.lost(error)
        with self._lock:
            self._run()
        self._look_again()

    def _look_again(self) -> None:
        """Have the keeper announce every task and sweep, until it succeeds."""
        self._renew_at = self._sweep_at = 0.0
        self._inbox.put(None)

    def _run(self) -> None:
        """Begin the threads if they do not run; the caller holds the lock."""
        if self._closing is not None:
            return
        self._closing = threading.Event()
        if self._store.is_up:
            self._renew_at = time.monotonic() + self.backend.lease / 3
            self._sweep_at = time.monotonic() + self.sweep_interval
        for target in (self._keep, self._hear):
            threading.Thread(
                target=target,
                args=(self._closing,),
                name=f"chatstop{target.__name__}",
                daemon=True,
            ).start()

    def _keep(self, closing: threading.Event) -> None:
        ends: _Ends = deque()
        while not self._is_over(self._receive(ends), ends, closing):
            try:
                self._tell_store(ends)
            except BackendError as error:
                self._lost(error)
            except Exception:  # a bug in a backend must not end the keeping of tasks
                logger.exception("The backend raised what a backend should not.")
                self._lost(BackendError("unexpected error"))
            if not self._store.is_up:
                closing.wait(min(self._store.backoff(), self.sweep_interval))

    def _receive(self, ends: _Ends) -> bool:
        """Wait until there is something to do, and tell whether it was a message."""
        wait = max(0.0, min(self._sweep_at, self._renew_at) - time.monotonic())
        if self._exiting:
            wait = 0.0
        received = False
        try:
            while True:
                message = self._inbox.get(timeout=0 if received else wait)
                received = True
                if isinstance(message, tuple):
                    ends.append(message)
                elif message is not None:
                    # In a thread of its own: its on_end is code of the app's.
                    threading.Thread(
                        target=message.end, args=(EndReason.FAILED,), daemon=True
                    ).start()
        except queue.Empty:
            return received

    def _is_over(self, received: bool, ends: _Ends, closing: threading.Event) -> bool:
        """Let both threads end when nothing is left to keep."""
        with self._lock:
            left = ends or self._tasks or not self._store.is_up
            if not received and self._inbox.empty() and (self._exiting or not left):
                self._closing = None
                closing.set()
        return closing.is_set()

    def _tell_store(self, ends: _Ends) -> None:
        now = time.monotonic()
        if not self._store.is_up:
            self.backend.check()
        if now >= self._renew_at:
            self._renew_at = now + self.backend.lease / 3
            running = [task.record for task in self._running()]
            # What began and ended during an outage must be known before it can end.
            if records := running + [record for record, _ in ends]:
                self.backend.renew(records)
        while ends:
            self.backend.end(*ends[0])
            ends.popleft()
        if now >= self._sweep_at:
            self._sweep_at = now + self.sweep_interval
            if task_ids := self._running_ids():
                self._heard(self.backend.stops(self.id, task_ids))
        self._store.found()

    def _hear(self, closing: threading.Event) -> None:
        doorbell = _Link("the doorbell of stops")

        def heard(task_ids: Collection[str]) -> None:
            doorbell.found()
            self._heard(task_ids)

        while not closing.is_set():
            try:
                self.backend.listen(self.id, self._running_ids, heard, closing)
            except BackendError as error:
                doorbell.lost(error)
            except Exception:  # nor must it leave this worker deaf
                logger.exception("The doorbell raised what a backend should not.")
                doorbell.lost(BackendError("unexpected error"))
            if not closing.wait(doorbell.backoff()):
                # The store may have come back empty without another call noticing.
                self._look_again()

    def _heard(self, task_ids: Collection[str]) -> None:
        for task_id in task_ids:
            if task := self._tasks.get(task_id):
                task.stop()


class _Link:
    """Whether something is reachable: logged when it goes and when it is back."""

    def __init__(self, name: str) -> None:
        self.is_up = True
        self._name = name
        self._attempts = 0

    def lost(self, error: BackendError) -> None:
        if self.is_up:
            self.is_up = False
            logger.warning("Lost %s, trying again: %s", self._name, error)

    def found(self) -> None:
        self._attempts = 0
        if not self.is_up:
            self.is_up = True
            logger.warning("Found %s again.", self._name)

    def backoff(self) -> float:
        """Give the seconds to wait before the next try: 0.1 to 5, with jitter."""
        self._attempts = min(self._attempts + 1, 10)
        longest: float = min(5.0, 0.1 * 2**self._attempts)
        return longest * random.uniform(0.5, 1.0)


# What a process truly shares: a fork and the exit concern every worker in it.
_workers: WeakSet[Worker] = WeakSet()


def _after_fork() -> None:
    for worker in list(_workers):
        worker.after_fork()


def _at_exit() -> None:
    for worker in list(_workers):
        worker.close()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)

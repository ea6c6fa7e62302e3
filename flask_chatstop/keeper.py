"""The thread that keeps the store and the tasks of a worker in agreement."""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import Protocol

from flask_chatstop.backends import EndReason, StopBackend, TaskRecord
from flask_chatstop.doorbell import Doorbell
from flask_chatstop.errors import BackendError
from flask_chatstop.link import Link

logger = logging.getLogger(__name__)

#: Seconds to gather messages for: a stream sends its last bytes before its end is
#: reported, and a busy worker wakes its keeper so often and no oftener.
_GATHERING = 0.05

_Ends = deque[tuple[TaskRecord, EndReason]]


class Running(Protocol):
    """What a worker needs to know of a task."""

    @property
    def record(self) -> TaskRecord: ...

    def stop(self) -> bool: ...

    def end(self, reason: EndReason) -> bool: ...


#: The end of a task, a task that nobody holds any more, or just a reason to look.
_Message = tuple[TaskRecord, EndReason] | Running | None


class Keeper:
    """Reports ends, renews leases, and sweeps for stops whose ring was lost.

    Its daemon thread and that of the doorbell begin with the first task and end a
    while after the last one.

    :param running: gives the tasks of the worker.
    :param is_idle: tells whether every task that began has reported its end.
    :param heard: takes the ids of tasks that were asked to stop.
    """

    def __init__(
        self,
        backend: StopBackend,
        worker_id: str,
        sweep_interval: float,
        running: Callable[[], list[Running]],
        is_idle: Callable[[], bool],
        heard: Callable[[Collection[str]], None],
    ) -> None:
        self._backend = backend
        self._worker_id = worker_id
        self._sweep_interval = sweep_interval
        self._running = running
        self._is_idle = is_idle
        self._heard = heard
        # Reentrant: the garbage collector may run an app's own `finally: task.end()`
        # in the thread that holds it.
        self._lock = threading.RLock()
        # The garbage collector puts abandoned tasks in here, and may do so while the
        # thread it interrupts holds a lock: of all queues only this one allows it.
        self._inbox: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        self._closing: threading.Event | None = None
        self._exiting = threading.Event()
        self._store = Link("the store of running tasks")
        self._doorbell = Doorbell(
            backend,
            worker_id,
            running=self._running_ids,
            heard=heard,
            found=self._store.retry.set,
            paused=self.look_again,
        )
        self._renew_at = self._sweep_at = 0.0
        # Ids that are being announced: renewed at the same moment, they would be
        # known already, and their own announcement refused.
        self._claimed: set[str] = set()

    @property
    def store_is_up(self) -> bool:
        """Whether the last call to the store succeeded."""
        return self._store.is_up

    @property
    def is_native(self) -> bool:
        """Whether the inbox is of the kind that threads use now, patched or not."""
        return isinstance(self._inbox, queue.SimpleQueue)

    def run(self) -> None:
        """Begin the threads if they do not run.

        :raises RuntimeError: there are too many threads; a later call tries again.
        """
        with self._lock:
            if self._closing is not None:
                return
            closing = self._closing = threading.Event()
            if self._store.is_up:
                self._renew_at = time.monotonic() + self._backend.lease / 3
                self._sweep_at = time.monotonic() + self._sweep_interval
            try:
                for name, target in (
                    ("hear", self._doorbell.hear),
                    ("keep", self._keep),
                ):
                    threading.Thread(
                        target=target,
                        args=(closing,),
                        name=f"chatstop_{name}",
                        daemon=True,
                    ).start()
            except BaseException:
                self._let_go(closing)
                raise

    def claim(self, task_id: str) -> None:
        """Leave a task that is being announced out of renewals."""
        self._claimed.add(task_id)

    def release(self, task_id: str) -> None:
        """Renew a task from now on."""
        self._claimed.discard(task_id)

    def report(self, record: TaskRecord, reason: EndReason) -> None:
        """Have the store told of an end; returns at once."""
        self._inbox.put((record, reason))
        self._try_to_run()

    def abandon(self, task: Running) -> None:
        """Have a task ended that nobody holds; the garbage collector may call it."""
        self._inbox.put(task)

    def lost(self, error: BackendError) -> None:
        """Note an outage; when it is over, everything that runs is announced again."""
        self._store.lost(error)
        self.look_again()
        self._try_to_run()

    def look_again(self) -> None:
        """Have every task renewed and swept at once, until it succeeds."""
        self._renew_at = self._sweep_at = 0.0
        self._inbox.put(None)

    def close(self) -> None:
        """Report what there is to report, and let the threads end."""
        with self._lock:
            closing = self._closing
        if closing is not None:
            self._exiting.set()
            self._store.retry.set()
            self._inbox.put(None)
            closing.wait(2 * self._backend.timeout)

    def _try_to_run(self) -> None:
        try:
            self.run()
        except RuntimeError as error:
            logger.error("The keeper of tasks could not begin: %s", error)

    def _running_ids(self) -> list[str]:
        return [task.record.task_id for task in self._running()]

    def _keep(self, closing: threading.Event) -> None:
        ends: _Ends = deque()
        while not self._is_over(self._receive(ends), ends, closing):
            self._store.retry.clear()
            try:
                self._tell_store(ends)
            except BackendError as error:
                self.lost(error)
            except Exception:  # a bug in a backend must not end the keeping of tasks
                logger.exception("The backend raised what a backend should not.")
                self.lost(BackendError("unexpected error"))
            if not self._store.is_up:
                pause = min(self._store.backoff(), self._sweep_interval)
                if self._exiting.is_set():
                    time.sleep(min(pause, 0.1))
                else:
                    self._store.retry.wait(pause)

    def _receive(self, ends: _Ends) -> bool:
        """Wait until there is something to do, and tell whether it was a message."""
        wait = max(0.0, min(self._sweep_at, self._renew_at) - time.monotonic())
        if ends and self._store.is_up:
            wait = 0.0  # left over, for a sweep or a renewal that was due
        received = False
        try:
            # At the exit, ends are still being reported by other threads.
            if self._exiting.is_set():
                wait = min(wait, 0.01)
            self._take(self._inbox.get(timeout=wait), ends)
            received = True
            if not self._exiting.is_set():
                time.sleep(_GATHERING)
            self._drain(ends)
        except queue.Empty:
            pass
        return received

    def _drain(self, ends: _Ends) -> None:
        try:
            while True:
                self._take(self._inbox.get_nowait(), ends)
        except queue.Empty:
            pass

    def _take(self, message: _Message, ends: _Ends) -> None:
        if isinstance(message, tuple):
            ends.append(message)
        elif message is not None:
            # In a thread of its own: its on_end is code of the app's.
            end = message.end
            try:
                threading.Thread(
                    target=end, args=(EndReason.FAILED,), daemon=True
                ).start()
            except RuntimeError:  # there are too many threads: late is not never
                try:
                    end(EndReason.FAILED)
                except Exception:
                    logger.exception("The end of an abandoned task failed.")

    def _is_over(self, received: bool, ends: _Ends, closing: threading.Event) -> bool:
        """Let both threads end when nothing is left to keep."""
        with self._lock:
            left = ends or not self._is_idle()
            if not self._exiting.is_set():
                left = left or not self._store.is_up
            if not received and self._inbox.empty() and not left:
                self._let_go(closing)
        if closing.is_set() and not self._inbox.empty():
            self._try_to_run()  # put by the garbage collector, after the look
        return closing.is_set()

    def _let_go(self, closing: threading.Event) -> None:
        self._closing = None
        closing.set()
        self._doorbell.retry()

    def _tell_store(self, ends: _Ends) -> None:
        now = time.monotonic()
        if not self._store.is_up:
            self._backend.check()
        if now >= self._renew_at:
            self._renew_at = now + self._backend.lease / 3
            running = [
                task.record
                for task in self._running()
                if task.record.task_id not in self._claimed
            ]
            # Then, and not before: what has ended meanwhile is no longer running.
            self._drain(ends)
            # What began and ended during an outage must be known before it can end.
            if records := running + [record for record, _ in ends]:
                self._renew(records)
        if self._store.found():
            # Stops are taken from now on, and must not wait for the doorbell's pause.
            self._doorbell.retry()
        while ends:
            self._end(ends)
            # A slow store must not let leases run out, nor stops wait.
            if time.monotonic() >= min(self._renew_at, self._sweep_at):
                break
        now = time.monotonic()
        if now >= self._sweep_at:
            self._sweep_at = now + self._sweep_interval
            if task_ids := self._running_ids():
                self._heard(self._backend.stops(self._worker_id, task_ids))

    def _renew(self, records: list[TaskRecord]) -> None:
        try:
            self._backend.renew(records)
        except BackendError:
            raise
        except Exception:
            logger.exception("The backend raised what a backend should not.")
            for record in records:  # that one is refused must not harm the others
                try:
                    self._backend.renew([record])
                except BackendError:
                    raise
                except Exception as error:
                    logger.error("Task %r is not kept: %r", record.task_id, error)

    def _end(self, ends: _Ends) -> None:
        try:
            self._backend.end(*ends[0])
        except BackendError:
            raise
        except Exception:
            logger.exception("The end of %r is lost.", ends[0][0].task_id)
        ends.popleft()

"""The thread that keeps the store and the running tasks of a worker in agreement."""

import logging
import queue
import threading
import time
from collections import deque

from flask_chatstop.backends import EndReason, StopBackend, TaskRecord
from flask_chatstop.errors import BackendError
from flask_chatstop.threads import start_thread
from flask_chatstop.worker.availability import Availability
from flask_chatstop.worker.listener import Listener
from flask_chatstop.worker.running import Message, RunningTasks

logger = logging.getLogger(__name__)

#: Seconds in which messages are gathered. A stream sends its last bytes before its end
#: is reported, and a busy worker wakes its reconciler 20 times a second at most.
_GATHERING = 0.05

_Ends = deque[tuple[TaskRecord, EndReason]]


class Reconciler:
    """Reports ends, renews leases, and sweeps for stops whose notification was lost.

    Its daemon thread and that of the listener begin with the first task and end a
    while after the last one.
    """

    def __init__(
        self,
        backend: StopBackend,
        worker_id: str,
        sweep_interval: float,
        running: RunningTasks,
    ) -> None:
        self._backend = backend
        self._worker_id = worker_id
        self._sweep_interval = sweep_interval
        self._running = running
        # Reentrant: the garbage collector may run an app's own `finally: task.end()`
        # in the thread that holds it.
        self._lock = threading.RLock()
        self._closing: threading.Event | None = None
        self._exiting = threading.Event()
        self._store = Availability("the store of running tasks")
        self._listener = Listener(backend, worker_id, running, self._store)
        self._renew_at = self._sweep_at = 0.0

    @property
    def store_is_up(self) -> bool:
        """Whether the last call to the store succeeded."""
        return self._store.is_up

    def begin(self) -> None:
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
                    ("listener", self._listener.run),
                    ("reconciler", self._run),
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

    def try_to_begin(self) -> None:
        """Begin the threads if they do not run; log it if there are too many."""
        try:
            self.begin()
        except RuntimeError as error:
            logger.error("The threads of the worker could not begin: %s", error)

    def lost(self, error: BackendError) -> None:
        """Note an outage; when it is over, everything that runs is announced again."""
        self._store.lost(error)
        self._running.look_again()
        self.try_to_begin()

    def close(self) -> None:
        """Report what there is to report, and let the threads end."""
        with self._lock:
            closing = self._closing
        if closing is not None:
            self._exiting.set()
            self._store.retry.set()
            self._running.inbox.put(None)
            closing.wait(2 * self._backend.timeout)

    def _run(self, closing: threading.Event) -> None:
        ends: _Ends = deque()
        while not self._is_over(self._receive(ends), ends, closing):
            self._store.retry.clear()
            try:
                self._tell_store(ends)
            except BackendError as error:
                self.lost(error)
            except Exception:  # a bug in a backend must not end the loop
                logger.exception("A backend raised an error that is not BackendError.")
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
        inbox = self._running.inbox
        received = False
        try:
            # At the exit, ends are still being reported by other threads.
            if self._exiting.is_set():
                wait = min(wait, 0.01)
            self._take(inbox.get(timeout=wait), ends)
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
                self._take(self._running.inbox.get_nowait(), ends)
        except queue.Empty:
            pass

    def _take(self, message: Message, ends: _Ends) -> None:
        if isinstance(message, tuple):
            ends.append(message)
        elif message is not None:
            # In a thread of its own: its on_end is the app's code.
            start_thread(message.end, EndReason.FAILED)

    def _is_over(self, received: bool, ends: _Ends, closing: threading.Event) -> bool:
        """Let both threads end when there is nothing left to do."""
        with self._lock:
            left = ends or not self._running.is_idle
            if not self._exiting.is_set():
                left = left or not self._store.is_up
            if not received and self._running.inbox.empty() and not left:
                self._let_go(closing)
        if closing.is_set() and not self._running.inbox.empty():
            self.try_to_begin()  # put by the garbage collector, after the look
        return closing.is_set()

    def _let_go(self, closing: threading.Event) -> None:
        self._closing = None
        closing.set()
        self._listener.retry()

    def _tell_store(self, ends: _Ends) -> None:
        now = time.monotonic()
        if self._running.must_look:
            self._running.must_look = False  # before looking: it may be set meanwhile
            self._renew_at = self._sweep_at = 0.0
        if not self._store.is_up:
            self._backend.check()
        if now >= self._renew_at:
            self._renew_at = now + self._backend.lease / 3
            running = self._running.renewable()
            # Then, and not before: what has ended meanwhile is no longer running.
            self._drain(ends)
            # What began and ended during an outage must be known before it can end.
            if records := running + [record for record, _ in ends]:
                self._renew(records)
        if self._store.found():
            # Stops are taken from now on, and must not wait for the listener's pause.
            self._listener.retry()
        while ends:
            self._end(ends)
            # A slow store must not let leases run out, nor stops wait.
            if time.monotonic() >= min(self._renew_at, self._sweep_at):
                break
        now = time.monotonic()
        if now >= self._sweep_at:
            self._sweep_at = now + self._sweep_interval
            if task_ids := self._running.ids():
                self._running.stop(self._backend.stops(self._worker_id, task_ids))

    def _renew(self, records: list[TaskRecord]) -> None:
        try:
            self._backend.renew(records)
        except BackendError:
            raise
        except Exception:
            logger.exception("renew() raised an error that is not a BackendError.")
            for record in records:  # that one is refused must not harm the others
                try:
                    self._backend.renew([record])
                except BackendError:
                    raise
                except Exception as error:
                    logger.error("Task %r was not renewed: %r", record.task_id, error)

    def _end(self, ends: _Ends) -> None:
        try:
            self._backend.end(*ends[0])
        except BackendError:
            raise
        except Exception:
            logger.exception("The end of task %r is lost.", ends[0][0].task_id)
        self._running.reported(ends.popleft()[0])

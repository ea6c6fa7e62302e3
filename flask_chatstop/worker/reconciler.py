"""The thread that keeps the store and the running tasks of a worker in agreement."""

import queue
import threading
import time

from flask_chatstop.backends import EndReason, StopBackend, TaskRecord
from flask_chatstop.errors import TaskExists
from flask_chatstop.logs import get_logger
from flask_chatstop.threads import start_thread
from flask_chatstop.worker.availability import Availability
from flask_chatstop.worker.listener import Listener
from flask_chatstop.worker.loops import Loops
from flask_chatstop.worker.running import RunnableTask, RunningTasks
from flask_chatstop.worker.store import Store

logger = get_logger(__name__)

#: Seconds in which messages are gathered. A stream sends its last bytes before its end
#: is reported, and a busy worker wakes its reconciler 20 times a second at most.
_GATHERING = 0.05
#: Seconds without a task after which the threads end. One that begins before finds a
#: listener that is connected.
_LINGERING = 1.0


class Reconciler:
    """Reports ends, renews leases, and sweeps for stops whose notification was lost.

    Its daemon thread and that of the listener begin with the first task and end a
    while after the last one.
    """

    name = "reconciler"

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
        self.store = Store(backend, running)
        self._exiting = threading.Event()
        self._availability = Availability("the store of running tasks")
        self._listener = Listener(
            backend, worker_id, running, self._availability, self.look
        )
        self._loops = Loops(
            self._listener,
            self,
            begun=self._begun,
            replaced=running.look_again,
        )
        self._renew_at = self._sweep_at = 0.0

    @property
    def store_is_up(self) -> bool:
        """Whether the last calls to the store succeeded."""
        return self._availability.is_up

    def begin(self) -> None:
        """Begin the threads that do not run.

        :raises RuntimeError: there are too many threads; a later call tries again.
        """
        self._loops.begin()

    def try_to_begin(self) -> None:
        """Begin the threads that do not run; log it if there are too many."""
        self._loops.try_to_begin()

    def look(self) -> None:
        """Replace a thread that is gone though it should run."""
        self._loops.replace_gone()

    def lost(self, error: BaseException) -> None:
        """Note an outage; when it is over, everything that runs is announced again."""
        self._availability.lost(error)
        self._running.look_again()
        self.try_to_begin()

    failed = lost

    def close(self) -> None:
        """Report what there is to report, and let the threads end."""
        if not self._running.is_idle:
            self.try_to_begin()
        closing = self._loops.closing
        if closing is not None:
            self._exiting.set()
            self._availability.retry.set()
            self._running.inbox.put(None)
            closing.wait(2 * self._backend.timeout)

    def turn(self, closing: threading.Event) -> None:
        """Wait until there is something to do, and do it."""
        was_down = not self.store_is_up
        received = self._pause() if was_down else self._receive()
        if self._loops.end_if(lambda: not received and self._is_idle()):
            self._listener.retry()
            if not self._running.inbox.empty():
                self.try_to_begin()  # put by the garbage collector, after the look
            return
        self.look()
        if self.store_is_up or was_down:
            self._agree()

    def _begun(self) -> None:
        if self.store_is_up:
            self._renew_at = time.monotonic() + self._backend.lease / 3
            self._sweep_at = time.monotonic() + self._sweep_interval

    def _pause(self) -> bool:
        """Wait before the next try, and return whether there was a message."""
        pause = self._availability.backoff()
        if self._exiting.is_set():
            time.sleep(min(pause, 0.1))
        else:
            self._availability.retry.wait(pause)
        self._availability.retry.clear()
        return self._drain()

    def _receive(self) -> bool:
        """Wait until there is something to do, and return whether it was a message."""
        wait = max(0.0, min(self._sweep_at, self._renew_at) - time.monotonic())
        if self._is_idle():
            wait = min(wait, _LINGERING)
        if self._running.has_ends:
            wait = 0.0  # left over, for a sweep or a renewal that was due
        # At the exit, ends are still being reported by other threads.
        if self._exiting.is_set():
            wait = min(wait, 0.01)
        try:
            self._take(self._running.inbox.get(timeout=wait))
        except queue.Empty:
            return False
        if not self._exiting.is_set():
            time.sleep(_GATHERING)
        self._drain()
        return True

    def _drain(self) -> bool:
        received = False
        try:
            while True:
                self._take(self._running.inbox.get_nowait())
                received = True
        except queue.Empty:
            return received

    def _take(self, abandoned: RunnableTask | None) -> None:
        if abandoned is not None:
            try:
                # In a thread of its own: its on_end is the app's code.
                start_thread(abandoned.end, EndReason.FAILED)
            except BaseException:
                self._running.abandon(abandoned)
                raise

    def _is_idle(self) -> bool:
        is_settled = self.store_is_up or self._exiting.is_set()
        return is_settled and self._running.is_idle and self._running.inbox.empty()

    def _agree(self) -> None:
        """Tell the store all that is due, and hear what it has to tell."""
        is_trial = not self.store_is_up
        if self._running.must_look:
            self._running.must_look = False  # before looking: it may be set meanwhile
            self._renew_at = self._sweep_at = 0.0
        now = time.monotonic()
        if now >= self._renew_at:
            self._renew_at = now + self._backend.lease / 3
            if records := self._running.renewable():
                self._end_others(self.store.renew(records))
        if now >= self._sweep_at:
            self._sweep_at = now + self._sweep_interval
            if task_ids := self._running.ids():
                self._running.stop(self._backend.stops(self._worker_id, task_ids))
        if not self.store_is_up:
            # After the renewal: a store that is full may still renew.
            self._backend.check()
        reported = self._report_ends(is_trial)
        # A round in which another thread lost the store does not find it again.
        if is_trial and self._availability.found():
            # Stops are taken from now on, and must not wait for the listener's pause.
            self._listener.retry()
        # Afterwards: an id is taken by its unreported end, and then by the store, which
        # is asked again.
        for record in reported:
            self._running.reported(record)

    def _report_ends(self, is_trial: bool) -> list[TaskRecord]:
        """Tell the store the ends; return those that are to be noted as reported."""
        reported = []
        for record, reason in self._running.ends():
            self.store.end(record, reason)
            if is_trial:
                reported.append(record)
            else:
                self._running.reported(record)
            # A slow store must not let leases run out, nor stops wait.
            if time.monotonic() >= min(self._renew_at, self._sweep_at):
                break
        return reported

    def _end_others(self, taken: set[str]) -> None:
        """End what began while the store was away, under an id that was taken."""
        for task_id in taken:
            task = self._running.get(task_id)
            if task is not None:
                error = TaskExists(
                    f"Task {task_id!r} fails: it began without the store, where its id"
                    " is another task's."
                )
                logger.error("%s", error)
                start_thread(task.end, EndReason.FAILED, error)

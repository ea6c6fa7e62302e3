"""The thread that hears stops, and listens again after each outage."""

import threading
from collections.abc import Callable, Collection

from flask_chatstop.backends import StopBackend
from flask_chatstop.worker.availability import Availability
from flask_chatstop.worker.running import RunningTasks


class Listener:
    """Hears the stops of one worker.

    :param store: what the reconciler knows of the store. It is told to try again as
        soon as stops are heard, since the store is back then.
    :param look: is called now and then, to replace a thread that is gone.
    """

    name = "listener"

    def __init__(
        self,
        backend: StopBackend,
        worker_id: str,
        running: RunningTasks,
        store: Availability,
        look: Callable[[], None],
    ) -> None:
        self._backend = backend
        self._worker_id = worker_id
        self._running = running
        self._store = store
        self._look = look
        self._doorbell = Availability("the doorbell of stops")
        self._listened_until: threading.Event | None = None

    def retry(self) -> None:
        """End the pause before the next try: the store is back, or all is over."""
        self._doorbell.retry.set()

    def turn(self, closing: threading.Event) -> None:
        """Hear stops until ``closing`` is set or the store fails."""
        if self._listened_until is closing:
            self._doorbell.retry.wait(self._doorbell.backoff())
            self._doorbell.retry.clear()
            if closing.is_set():
                return
            # The store may have lost its data without any other call noticing.
            self._running.look_again()
        self._listened_until = closing
        self._backend.listen(self._worker_id, self._ids, self._heard, closing)

    def failed(self, error: BaseException) -> None:
        """Note that nothing is heard."""
        self._doorbell.lost(error)

    def _ids(self) -> Collection[str]:
        self._look()
        return self._running.ids()

    def _heard(self, task_ids: Collection[str]) -> None:
        if self._doorbell.found():
            self._store.retry.set()
        self._running.stop(task_ids)
        self._look()

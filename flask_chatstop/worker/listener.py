"""The thread that hears stops, and listens again after each outage."""

import logging
import threading
from collections.abc import Collection

from flask_chatstop.backends import StopBackend
from flask_chatstop.errors import BackendError
from flask_chatstop.worker.availability import Availability
from flask_chatstop.worker.running import RunningTasks

logger = logging.getLogger(__name__)


class Listener:
    """Hears the stops of one worker.

    :param store: what the reconciler knows of the store. It is told to try again as
        soon as stops are heard, since the store is back then.
    """

    def __init__(
        self,
        backend: StopBackend,
        worker_id: str,
        running: RunningTasks,
        store: Availability,
    ) -> None:
        self._backend = backend
        self._worker_id = worker_id
        self._running = running
        self._store = store
        self._doorbell = Availability("the doorbell of stops")

    def retry(self) -> None:
        """End the pause before the next try: the store is back, or all is over."""
        self._doorbell.retry.set()

    def run(self, closing: threading.Event) -> None:
        """Hear stops until ``closing`` is set and :meth:`retry` is called."""
        while not closing.is_set():
            self._doorbell.retry.clear()
            lost = self._listen(closing)
            if closing.is_set():
                break
            if lost is not None:
                self._doorbell.lost(lost)
            self._doorbell.retry.wait(self._doorbell.backoff())
            if not closing.is_set():
                # The store may have lost its data without any other call noticing.
                self._running.look_again()

    def _listen(self, closing: threading.Event) -> BackendError | None:
        def heard(task_ids: Collection[str]) -> None:
            if self._doorbell.found():
                self._store.retry.set()
            self._running.stop(task_ids)

        try:
            self._backend.listen(self._worker_id, self._running.ids, heard, closing)
        except BackendError as error:
            return error
        except Exception:  # a bug in a backend must not leave this worker deaf
            logger.exception("listen() raised an error that is not a BackendError.")
            return BackendError("unexpected error")
        return None

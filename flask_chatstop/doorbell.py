"""The thread that hears stops, through every outage."""

import logging
import threading
from collections.abc import Callable, Collection

from flask_chatstop.backends import StopBackend
from flask_chatstop.errors import BackendError
from flask_chatstop.link import Link

logger = logging.getLogger(__name__)


class Doorbell:
    """Hears the stops of one worker, and listens again after each outage.

    :param running: gives the ids of the worker's tasks.
    :param heard: takes the ids of tasks that were asked to stop.
    :param found: told when stops are heard again: the store is back.
    :param paused: told after each time in which nothing was heard.
    """

    def __init__(
        self,
        backend: StopBackend,
        worker_id: str,
        *,
        running: Callable[[], Collection[str]],
        heard: Callable[[Collection[str]], None],
        found: Callable[[], None],
        paused: Callable[[], None],
    ) -> None:
        self._backend = backend
        self._worker_id = worker_id
        self._running = running
        self._heard = heard
        self._found = found
        self._paused = paused
        self._link = Link("the doorbell of stops")

    def retry(self) -> None:
        """End the pause before the next try: the store is back, or all is over."""
        self._link.retry.set()

    def hear(self, closing: threading.Event) -> None:
        """Hear stops until ``closing`` is set and :meth:`retry` is called."""
        while not closing.is_set():
            self._link.retry.clear()
            lost = self._listen(closing)
            if closing.is_set():
                break
            if lost is not None:
                self._link.lost(lost)
            self._link.retry.wait(self._link.backoff())
            if not closing.is_set():
                # The store may have come back empty without another call noticing.
                self._paused()

    def _listen(self, closing: threading.Event) -> BackendError | None:
        def heard(task_ids: Collection[str]) -> None:
            if self._link.found():
                self._found()
            self._heard(task_ids)

        try:
            self._backend.listen(self._worker_id, self._running, heard, closing)
        except BackendError as error:
            return error
        except Exception:  # a bug in a backend must not leave this worker deaf
            logger.exception("The doorbell raised what a backend should not.")
            return BackendError("unexpected error")
        return None

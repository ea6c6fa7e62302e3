"""The calls of a reconciler to its store, where a refused record harms no other."""

from flask_chatstop.backends import EndReason, StopBackend, TaskRecord
from flask_chatstop.errors import BackendError, RecordRefused
from flask_chatstop.logs import get_logger
from flask_chatstop.worker.running import RunningTasks

logger = get_logger(__name__)


class Store:
    """Tells the store of the tasks of one worker.

    A record that it refuses is logged once, and left to the process that runs it.
    """

    def __init__(self, backend: StopBackend, running: RunningTasks) -> None:
        self._backend = backend
        self._running = running

    def announce(self, record: TaskRecord) -> bool:
        """Make a new task known, and return whether its id was free.

        :raises BackendError: the store failed.
        """
        try:
            return self._backend.announce(record)
        except RecordRefused as error:
            self._refused(record, error)
            return True

    def renew(self, records: list[TaskRecord]) -> set[str]:
        """Renew tasks, and return the ids that are taken.

        :raises BackendError: the store failed.
        """
        refused = [x for x in records if self._running.is_refused(x)]
        taken = self._renew([x for x in records if not self._running.is_refused(x)])
        for record in refused:  # a migration may have widened a column
            taken |= self._renew([record])
        return taken

    def end(self, record: TaskRecord, reason: EndReason) -> None:
        """Tell how a task has ended.

        :raises BackendError: the store failed.
        """
        try:
            is_known = self._backend.end(record, reason)
            if not is_known and not self._backend.renew([record]):
                # The lease ran out unnoticed: the machine was suspended, or the clock
                # of the store was set. The other tasks may be unknown as well.
                self._backend.end(record, reason)
                self._running.look_again()
        except Exception as error:
            if _is_outage(error):
                raise
            self._refused(record, error)

    def _renew(self, records: list[TaskRecord]) -> set[str]:
        if not records:
            return set()
        try:
            taken = self._backend.renew(records)
        except Exception as error:
            if _is_outage(error):
                raise
            if len(records) == 1:
                self._refused(records[0], error)
                return set()
            middle = len(records) // 2
            return self._renew(records[:middle]) | self._renew(records[middle:])
        for record in records:
            self._running.accepted(record)
        return taken

    def _refused(self, record: TaskRecord, error: Exception) -> None:
        if self._running.refused(record):
            is_known = isinstance(error, RecordRefused)
            logger.error(
                "The store refuses task %r; only its own process can stop it: %s",
                record.task_id,
                error if is_known else type(error).__name__,
                exc_info=None if is_known else error,
            )


def _is_outage(error: Exception) -> bool:
    """Return whether an error says nothing of the record that the call was about."""
    if isinstance(error, BackendError):
        return not isinstance(error, RecordRefused)
    return isinstance(error, MemoryError)

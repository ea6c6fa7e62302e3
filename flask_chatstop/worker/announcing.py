"""Making a task known to the store, or going on without it."""

from flask_chatstop.backends import TaskRecord
from flask_chatstop.errors import BackendError, TaskExists
from flask_chatstop.greenlets import call_on_own_stack
from flask_chatstop.logs import get_logger
from flask_chatstop.worker.reconciler import Reconciler
from flask_chatstop.worker.running import RunningTasks

logger = get_logger(__name__)


def announce(record: TaskRecord, reconciler: Reconciler, running: RunningTasks) -> None:
    """Make a task known to the store; log it if the store is out of reach.

    :raises TaskExists: its id is taken.
    """
    lost: BackendError | None = None
    try:
        if reconciler.store_is_up:
            # The greenlet of a server goes on to wait with the stream.
            if call_on_own_stack(reconciler.store.announce, record):
                return
            raise TaskExists(f"The task id {record.task_id!r} is taken.")
    except BackendError as error:
        lost = error
    finally:
        running.announced(record)
    # After that: the reconciler leaves out what is being announced.
    if lost is not None:
        reconciler.lost(lost)
    else:
        # The reconciler may have announced what runs, and be about to find the store.
        running.look_again()
    message = "Task %r runs, but only this process can stop it until the store is back."
    logger.warning(message, record.task_id)

"""What concerns every worker of a process: a fork, and the exit."""

import atexit
from typing import Protocol
from weakref import WeakSet

from flask_chatstop.forks import call_in_child
from flask_chatstop.logs import get_logger

logger = get_logger(__name__)


class ProcessBound(Protocol):
    """What begins anew in a forked child, and is closed at the exit."""

    def after_fork(self) -> None: ...

    def close(self) -> None: ...


#: The workers of this process.
workers: WeakSet[ProcessBound] = WeakSet()
#: What is closed when the workers are: these hand their last words on to it.
closed_last: WeakSet[ProcessBound] = WeakSet()


def _after_fork() -> None:
    for worker in [*workers, *closed_last]:
        worker.after_fork()


def _at_exit() -> None:
    for worker in [*workers, *closed_last]:
        try:
            worker.close()
        except Exception as error:
            logger.error("A worker could not be closed.", exc_info=error)


call_in_child(_after_fork)
atexit.register(_at_exit)

"""What a store of running tasks has to do."""

import abc
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from flask_chatstop.checks import seconds


class Owner(NamedTuple):
    """Who may stop a task; all three are compared exactly, byte for byte.

    :param app: the name behind the API key.
    :param source: the ``source`` of the :class:`~flask_chatstop.ChatStop`.
    :param user: the user as the app names them.
    """

    app: str
    source: str
    user: str

    def matches(self, app: str | None, source: str | None, user: str | None) -> bool:
        """Tell whether every part that is given is this owner's."""
        return (
            app in (None, self.app)
            and source in (None, self.source)
            and user in (None, self.user)
        )


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A running task as the store knows it: its id, its owner, its worker."""

    task_id: str
    owner: Owner
    worker_id: str


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A task that is running or stopping, as an operator sees it.

    :param age: seconds since it became known, by the store's clock.
    """

    record: TaskRecord
    is_stopping: bool
    age: float


class EndReason(StrEnum):
    """How a generation ended."""

    FINISHED = "finished"
    STOPPED = "stopped"
    DISCONNECTED = "disconnected"
    FAILED = "failed"


class StopOutcome(StrEnum):
    """What a stop found, sent to the client as ``Chatstop-Outcome``."""

    STOPPING = "stopping"
    STOPPED = "stopped"
    ENDED = "ended"
    MISSING = "missing"


class StopBackend(abc.ABC):
    """The store that every worker of an app shares, and that is the truth.

    A task goes through it in one direction: absent → running → stopping → ended →
    absent. Write your own by filling in the abstract methods, and prove it with
    :class:`flask_chatstop.testing.BackendContract`.

    All methods are called from many threads at once. Each takes no longer than
    ``timeout``, never tries in a loop, and raises
    :class:`~flask_chatstop.BackendError` from the driver's error when the store
    fails. Times are kept by the store's clock, so that hosts whose clocks differ
    agree. Nothing is connected before the first call, and a forked child connects
    anew.

    :param lease: seconds that a task stays known without being renewed; what a
        killed worker leaves behind is gone after as long.
    :param retention: seconds that an ended task stays known, so that a late stop is
        told the truth.
    :param timeout: seconds that one call may take.
    :raises ConfigurationError: one of them is not a number of seconds above 0.
    """

    def __init__(
        self, *, lease: float = 60.0, retention: float = 600.0, timeout: float = 2.0
    ) -> None:
        self.lease = seconds("lease", lease)
        self.retention = seconds("retention", retention)
        self.timeout = seconds("timeout", timeout)

    @abc.abstractmethod
    def announce(self, record: TaskRecord) -> bool:
        """Make a new task known as running, for ``lease`` seconds.

        One round trip. An id that is running, stopping or ended is taken: nothing
        changes, whoever announces it.

        :returns: whether the id was free.
        """

    @abc.abstractmethod
    def renew(self, records: Sequence[TaskRecord]) -> None:
        """Let these tasks of one worker be known for another ``lease`` seconds.

        A task that the store has lost becomes running again. One that is stopping
        stays so, even if its lease has run out since it was stopped, for up to
        ``retention`` seconds: else a worker that was cut off would never hear of it.
        One that has ended, or whose id another worker has, is left as it is. All
        records carry the same ``worker_id``.
        """

    @abc.abstractmethod
    def stop(self, task_id: str, owner: Owner) -> StopOutcome:
        """Ask a task to stop, and ring the doorbell of its worker and of no other.

        Atomic and one round trip: the owner is checked in the step that changes the
        state. Nothing is kept of an id that is not known.

        :returns: ``STOPPING`` if it was running or stopping, ``STOPPED`` if it has
            ended because of a stop, ``ENDED`` if it has ended otherwise, and
            ``MISSING`` if it is unknown, expired or another owner's.
        """

    @abc.abstractmethod
    def end(self, record: TaskRecord, reason: EndReason) -> None:
        """Note how a task has ended, and forget it after ``retention`` seconds.

        The first end counts, later ones change nothing, and so does the end of a
        task that is unknown or that another worker has.
        """

    @abc.abstractmethod
    def stops(self, worker_id: str, task_ids: Collection[str]) -> set[str]:
        """Tell which of these tasks of one worker are stopping.

        Reading changes nothing: the same question gets the same answer. Ids that
        are unknown, ended or another worker's are left out.
        """

    @abc.abstractmethod
    def tasks(
        self,
        *,
        task_id: str | None = None,
        app: str | None = None,
        source: str | None = None,
        user: str | None = None,
    ) -> list[TaskInfo]:
        """List what is running or stopping, the oldest first.

        For operators, and to stop all of a user's tasks: it may look at every task.

        :param task_id: only this task, and so for the parts of its owner.
        """

    def listen(
        self,
        worker_id: str,
        running: Callable[[], Collection[str]],
        heard: Callable[[Collection[str]], None],
        closing: threading.Event,
    ) -> None:
        """Hear the doorbell of one worker until ``closing`` is set.

        Runs in a thread of its own, which starts it again after a
        :class:`~flask_chatstop.BackendError`. Calls ``heard`` with what
        :meth:`stops` says of ``running()`` as soon as nothing can be missed any
        more, and from then on with the ids of tasks as their stops arrive. A ring
        may be lost or come twice. Returns within ``timeout`` of ``closing``.

        This one asks :meth:`stops` every 100 ms, and nothing while nothing runs.

        :param running: gives the ids of the worker's tasks at the moment.
        :param heard: takes ids of tasks asked to stop; quick, never raises.
        """
        heard(self.stops(worker_id, running()))
        while not closing.wait(0.1):
            if task_ids := running():
                heard(self.stops(worker_id, task_ids))

    @abc.abstractmethod
    def check(self) -> None:
        """Do nothing if the store is usable, else raise.

        :raises BackendError: says what is wrong and what to do.
        """

    def close(self) -> None:  # noqa: B027 - not every store has something to close
        """Let go of connections; a later call may connect again."""

    def after_fork(self) -> None:  # noqa: B027 - nor something to leave to the parent
        """Leave connections and locks to the parent; called in a forked child."""

"""The interface of a store of running tasks."""

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
        """Return whether this owner has every part that is given; None matches any."""
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

    :param age: seconds since the task became known, by the store's clock.
    :param lease_left: seconds until it is gone unless its worker renews it; ``None`` if
        the store does not tell.
    """

    record: TaskRecord
    is_stopping: bool
    age: float
    lease_left: float | None = None


class EndReason(StrEnum):
    """How a generation ended."""

    FINISHED = "finished"
    STOPPED = "stopped"
    DISCONNECTED = "disconnected"
    FAILED = "failed"
    #: Its time limit was over.
    TIMED_OUT = "timed_out"


class StopOutcome(StrEnum):
    """What a stop found; the client gets it as ``Chatstop-Outcome``."""

    STOPPING = "stopping"
    STOPPED = "stopped"
    ENDED = "ended"
    MISSING = "missing"


class StopBackend(abc.ABC):
    """The store that all workers of an app share; what it says is true.

    A task has one direction: absent → running → stopping → ended → absent. To write a
    backend of your own, fill in the abstract methods and prove it with
    :class:`flask_chatstop.testing.BackendContract`. :class:`SimpleBackend` needs two
    methods only.

    All methods are called from many threads at once. No call takes longer than
    ``timeout`` or retries in a loop without a limit. When the store fails, a call
    raises :class:`~flask_chatstop.BackendError` from the driver's error. All times are
    those of the store's clock, since the clocks of hosts differ. The first call
    connects, and a forked child connects anew.

    :param lease: seconds that a task stays known without a renewal. The tasks of a
        killed worker are gone after the lease.
    :param retention: seconds that an ended task stays known, so that a late stop gets a
        true answer.
    :param timeout: seconds that one call may take; at most the lease.
    :raises ConfigurationError: one of them is not a valid number of seconds.
    """

    def __init__(
        self, *, lease: float = 60.0, retention: float = 600.0, timeout: float = 2.0
    ) -> None:
        self.lease = seconds("lease", lease)
        self.retention = seconds("retention", retention)
        self.timeout = seconds("timeout", timeout)

    @abc.abstractmethod
    def announce(self, record: TaskRecord) -> bool:
        """Store a new task as running, for ``lease`` seconds.

        It takes one round trip. The id of a task that is running, stopping or ended is
        taken. Then nothing changes, whoever announces it.

        :returns: whether the id was free.
        :raises RecordRefused: the store refuses this record, and goes on with others.
        """

    @abc.abstractmethod
    def renew(self, records: Sequence[TaskRecord]) -> set[str]:
        """Keep these tasks of one worker for another ``lease`` seconds.

        A task that the store has lost becomes running again. A task that is stopping
        stays so, even if its lease ran out up to ``retention`` seconds ago; otherwise a
        worker that was cut off would never learn of the stop. A task that has ended
        does not change, nor does one whose id another worker has. All records have the
        same ``worker_id``.

        :returns: the ids that do not name these tasks: another worker has them, or a
            task that has ended.
        :raises RecordRefused: the store refuses one of them. The worker then renews
            fewer at once, until it knows which.
        """

    @abc.abstractmethod
    def stop(self, task_id: str, owner: Owner) -> StopOutcome:
        """Set a task to stopping, and notify its worker and no other.

        It is atomic: one round trip checks the owner and changes the state. Then it
        notifies, in the same round trip where the store can. An id that is unknown
        leaves no trace in the store.

        :returns: ``STOPPING`` if it was running or stopping, ``STOPPED`` if it has
            ended because of a stop, ``ENDED`` if it has ended otherwise, and
            ``MISSING`` if it is unknown, expired or another owner's.
        """

    @abc.abstractmethod
    def end(self, record: TaskRecord, reason: EndReason) -> bool:
        """Record how a task has ended, and forget it after ``retention`` seconds.

        The first end counts, and later ones change nothing. The end of a task that is
        unknown, or that another worker has, changes nothing either.

        :returns: whether this was the first end of a task that the worker had. If not,
            the worker makes the task known, in case that its lease ran out unnoticed,
            and tells its end again.
        :raises RecordRefused: the store refuses this record, and goes on with others.
        """

    @abc.abstractmethod
    def stops(self, worker_id: str, task_ids: Collection[str]) -> set[str]:
        """Return which of these tasks of one worker are stopping.

        A second call returns the same. Ids that are unknown, ended or of another worker
        are left out.
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
        """Return the tasks that are running or stopping, the oldest first.

        It serves operators and stops all tasks of a user, so it may read every task. A
        stop that waits calls it with a ``task_id`` 20 times a second.

        :param task_id: return only this task. The parts of the owner work likewise.
        """

    def has_ended(self, task_id: str, owner: Owner) -> bool | None:
        """Return whether an owner's task has ended within ``retention`` seconds.

        It makes no write. ``None`` means that the store does not tell, as this one. A
        client that asks for an answer that is not kept then waits for half a second.
        """
        return None

    def listen(
        self,
        worker_id: str,
        running: Callable[[], Collection[str]],
        heard: Callable[[Collection[str]], None],
        closing: threading.Event,
    ) -> None:
        """Report the stops of one worker's tasks until ``closing`` is set.

        A thread of its own calls it, and calls it again after a
        :class:`~flask_chatstop.BackendError`. When it can miss no more notifications,
        it calls ``heard`` with the result of :meth:`stops` for ``running()``. From then
        on it calls ``heard`` with the ids of tasks as their stops arrive. A
        notification may be lost or come twice. It returns within ``timeout`` of
        ``closing``.

        This one polls :meth:`stops` every 100 ms while tasks run.

        :param running: returns the ids of the tasks that the worker runs now.
        :param heard: takes ids of tasks that have to stop; quick, never raises.
        """
        heard(self.stops(worker_id, running()))
        while not closing.wait(0.1):
            if task_ids := running():
                heard(self.stops(worker_id, task_ids))

    @abc.abstractmethod
    def check(self) -> None:
        """Do nothing if the store is usable.

        :raises BackendError: it is not; the message says what is wrong and what to do.
        """

    def close(self) -> None:  # noqa: B027 - some stores have nothing to close
        """Close the connections; a later call may connect again."""

    def after_fork(self) -> None:  # noqa: B027 - some stores have nothing to leave
        """Leave connections and locks to the parent; called in a forked child."""

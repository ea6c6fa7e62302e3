"""What the app's own code does with tasks: it starts, lists and stops them."""

import abc
import time
import uuid
from collections.abc import Callable

from flask_chatstop.backends import StopOutcome, TaskInfo, TaskRecord
from flask_chatstop.checks import MAX_ID, is_id, is_task_id, seconds
from flask_chatstop.errors import InvalidParam
from flask_chatstop.formats import StreamFormat
from flask_chatstop.generation.client_timeout import set_client_timeout
from flask_chatstop.generation.request_tasks import end_with_request
from flask_chatstop.generation.task import GenerationTask
from flask_chatstop.owners import loaded_user, owner_of, whose
from flask_chatstop.route.auth import Caller
from flask_chatstop.route.reconnect import refuse_reconnect
from flask_chatstop.route.stop import tell_receivers, this_app
from flask_chatstop.servers import warn_of_server
from flask_chatstop.state import AppState


class TaskControl(abc.ABC):
    """The tasks of one ``ChatStop``, for the app's own code.

    In a request, the authenticator and the ``user_loader`` say whose task it is. Code
    that passes ``app=`` says it itself, and needs no request: an app context is enough.
    """

    source: str
    _caller: Caller
    _make_format: Callable[[], StreamFormat]

    @abc.abstractmethod
    def _state(self) -> AppState:
        """Return the state of the current app."""

    def start(
        self,
        *,
        user: str | None = None,
        app: str | None = None,
        task_id: str | None = None,
        time_limit: float | None = None,
    ) -> GenerationTask:
        """Begin a task that can be stopped from now on, in every worker.

        Call it in a view behind :meth:`login_required`, before anything slow; or
        anywhere with an app context, if you pass ``user`` and ``app``. If the store
        cannot be reached, the task runs all the same, and only its process can stop it.

        :param user: who may stop it, together with the app; may be left out with a
            ``user_loader``.
        :param app: the name behind an API key; by default that of the current request.
        :param task_id: 1 to 255 characters without a slash or ``%2F``, and not ``.`` or
            ``..``; by default a new UUID.
            An id names one generation: it is taken until the retention is over.
        :param time_limit: seconds after which the task ends as ``timed_out`` if it
            still runs. It is hung up on, like a stopped one.
        :raises InvalidParam: the user, the app or the id is invalid, or ``app`` is not
            given and the user is not the one of the ``user_loader``.
        :raises NotLoggedIn: no user is given, and the ``user_loader`` knows nobody.
        :raises TaskExists: the id is taken.
        :raises ConfigurationError: no app is given and nobody is authenticated, or the
            time limit is not a number above 0.
        :raises werkzeug.exceptions.HTTPException: a browser has lost the stream of an
            earlier answer, and would ask the same question again. It is answered 204,
            and stays away.
        """
        refuse_reconnect()
        state = self._state()
        if app is None and user is not None:
            loaded = loaded_user(self._caller)
            if loaded not in (None, user):
                raise InvalidParam("user is not the user of the user_loader.")
        owner = owner_of(self._caller, user, app)
        if task_id is None:
            task_id = str(uuid.uuid4())
        elif not is_task_id(task_id):
            raise InvalidParam(
                f"task_id must be a string of 1 to {MAX_ID} characters, without a slash"
                " or %2F, and not . or .. alone."
            )
        if time_limit is not None:
            time_limit = seconds("time_limit", time_limit)
        state.warn_of_processes()
        warn_of_server()
        task = GenerationTask(
            TaskRecord(task_id, owner, state.worker.id),
            this_app(),
            state.worker,
            time_limit=time_limit,
            tracks_calls=state.tracks_calls,
            is_inline=not state.is_enabled,
            make_format=self._make_format,
            event_writer=state.event_writer,
        )
        task.begin()
        set_client_timeout(state.client_timeout)
        end_with_request(task)
        return task

    def stop(
        self,
        task_id: str,
        *,
        user: str | None = None,
        app: str | None = None,
        wait: float = 0.0,
    ) -> StopOutcome:
        """Stop a task, in whichever worker it runs.

        With ``wait`` it returns when the task has reported its end. Its ``on_end`` has
        been called by then: the partial answer is saved.

        :param user: whose task it is; by default the user of the ``user_loader``.
        :param app: the name behind the user's API key; by default that of the current
            request.
        :param wait: seconds to wait for the end, in this thread.
        :returns: ``STOPPED`` or ``ENDED`` if its end is reported, ``STOPPING`` if it is
            yet to come, ``MISSING`` if this owner has no such task.
        :raises BackendError: the store failed, and the task does not run here.
        :raises ConfigurationError: no app is given and nobody is authenticated, or
            ``wait`` is not a number of seconds.
        :raises InvalidParam: the user or the app is invalid.
        :raises TypeError: it is a task, not an id.
        """
        if isinstance(task_id, GenerationTask):
            raise TypeError("task_id is a task; give its id, task.id.")
        worker = self._state().worker
        owner = owner_of(self._caller, user, app)
        if wait:
            wait = seconds("wait", wait)
        if not is_id(task_id):
            return StopOutcome.MISSING
        # Unlike the waits of clients, those of the app are not limited in number.
        outcome = worker.stop_and_wait(task_id, owner, wait, is_limited=False)
        tell_receivers(task_id, owner, outcome)
        return outcome

    def stop_all(
        self,
        *,
        user: str | None = None,
        app: str | None = None,
        everybody: bool = False,
    ) -> int:
        """Stop every task of a user, or of everybody, in every worker.

        :param user: whose tasks; by default those of the user of the ``user_loader``.
        :param app: the name behind the user's API key; by default that of the current
            request, or with ``everybody`` every app.
        :param everybody: ``True`` stops the tasks of all users. Leaving out the user
            does not, since it may be ``None`` by mistake.
        :returns: how many were running or stopping.
        :raises BackendError: the store failed.
        :raises ConfigurationError: no app is given and nobody is authenticated.
        :raises InvalidParam: the user or the app is invalid.
        :raises TypeError: both a user and ``everybody`` are given.
        """
        worker = self._state().worker
        app, user = whose(self._caller, user, app, everybody)
        stopped = worker.stop_all(app=app, source=self.source, user=user)
        for record in stopped:
            tell_receivers(record.task_id, record.owner, StopOutcome.STOPPING)
        return len(stopped)

    def tasks(
        self,
        *,
        user: str | None = None,
        app: str | None = None,
        everybody: bool = False,
    ) -> list[TaskInfo]:
        """Return the tasks that are running or stopping, the oldest first.

        The parameters and errors are those of :meth:`stop_all`.
        """
        worker = self._state().worker
        app, user = whose(self._caller, user, app, everybody)
        return worker.tasks(app=app, source=self.source, user=user)

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until the store knows every end that this process has reported so far.

        Ends are reported a moment later, by a thread, and so are the last events
        written to ``CHATSTOP_EVENTS``. Call it before a process leaves without Python's
        exit, as those of RQ do.

        :param timeout: seconds to wait at most.
        :returns: whether the store knows them all.
        :raises ConfigurationError: the timeout is not a number above 0.
        """
        state = self._state()
        deadline = time.monotonic() + seconds("timeout", timeout)
        is_written = state.event_writer is None or state.event_writer.flush(timeout)
        left = max(0.0, deadline - time.monotonic())
        return state.worker.flush(left) and is_written

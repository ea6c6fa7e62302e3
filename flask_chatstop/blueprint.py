"""The blueprint: its stop route and the start of tasks."""

import re
import uuid
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from flask import (
    Blueprint,
    Flask,
    Response,
    after_this_request,
    current_app,
    g,
    has_request_context,
    request,
)
from flask.blueprints import BlueprintSetupState
from werkzeug.exceptions import HTTPException, InternalServerError
from werkzeug.routing import Rule

from flask_chatstop.backends import EndReason, Owner, StopOutcome, TaskRecord
from flask_chatstop.cli import commands
from flask_chatstop.clients import give_up_after
from flask_chatstop.config import AppState
from flask_chatstop.errors import (
    BackendError,
    ConfigurationError,
    InvalidParam,
    TaskExists,
    TaskStopped,
)
from flask_chatstop.events import stopped_response
from flask_chatstop.keys import Authenticator, bearer_auth
from flask_chatstop.openapi import document
from flask_chatstop.signals import send, stop_requested
from flask_chatstop.tasks import GenerationTask
from flask_chatstop.wire import (
    WireError,
    as_json_error,
    backend_error_response,
    error_response,
    http_error_response,
    is_id,
    method_response,
    outcome_response,
    read_body,
    read_wait,
    wire_error_response,
)

F = TypeVar("F", bound=Callable[..., Any])

# The route takes them all, so that a wrong one is answered by us, as JSON.
_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE")


class _AnyMethod(set[str]):
    """The methods of a rule that takes those as well which nobody has thought of."""

    # Not None, which means the same: what lists an app's routes joins these.
    def __contains__(self, method: object) -> bool:
        return True


class ChatStop(Blueprint):
    """A blueprint with the route ``POST /chat-messages/<task_id>/stop``.

    ::

        chatstop = ChatStop()
        app.register_blueprint(chatstop, url_prefix="/v1")

    It may be registered on several apps, and several may be registered on one, each
    with a name, a source and an authenticator of its own. These keys of
    ``app.config`` are read when it is registered:

    ``CHATSTOP_API_KEYS``
        A mapping of API key to the name of the app behind it, or a list of keys that
        are an app each. ``sha256:`` and a key's hexadecimal digest may stand in its
        place. Needed unless ``auth`` is given.
    ``CHATSTOP_BACKEND``
        A URL, like ``sqlite:///chatstop.db``, ``postgresql://``, ``mysql://`` or
        ``redis://``, or a :class:`StopBackend`. Default ``memory://``, for one
        process.
    ``CHATSTOP_MISSING_OK``
        Answer the stop of an unknown task with success, as Dify's server does,
        instead of 404. Default ``False``.
    ``CHATSTOP_LEASE``
        Seconds that a task stays known when its worker was killed; running tasks are
        renewed. Default 60.
    ``CHATSTOP_RETENTION``
        Seconds that an ended task stays known, so that a late stop is told the truth.
        Default 600.
    ``CHATSTOP_SWEEP_INTERVAL``
        Seconds between two looks for stops whose ring was lost. Default 5.
    ``CHATSTOP_OPERATION_TIMEOUT``
        Seconds that one call to the store may take. Default 2.
    ``CHATSTOP_CLIENT_TIMEOUT``
        Seconds that a client may acknowledge or take nothing before its connection is
        given up, on Linux with gunicorn or Werkzeug's server. Default 30.

    A wrong value raises :class:`ConfigurationError` when it is registered.

    :param name: the blueprint's name, and the realm of its bearer keys.
    :param source: tells tasks begun here from those of another ``ChatStop``: neither
        can stop the other's.
    :param auth: a flask-httpauth object, or anything with its ``login_required`` and
        a ``current_user()`` that gives the app's name; bearer keys unless given.
    :param user_loader: gives the user of the current request, from a session for
        instance, or ``None``. The ``user`` in a body may then be left out, and one
        that disagrees is answered as a missing task.
    :param routes: what stands before ``/<task_id>/stop``; the contract's family has
        ``completion-messages`` and ``workflows/tasks`` besides.
    :param options: for :class:`flask.Blueprint`.
    """

    def __init__(
        self,
        name: str = "chatstop",
        *,
        source: str = "service-api",
        auth: Authenticator | None = None,
        user_loader: Callable[[], str | int | None] | None = None,
        routes: Sequence[str] = ("chat-messages",),
        **options: Any,
    ) -> None:
        super().__init__(name, __name__, **options)
        _check(source, auth, user_loader, routes)
        self.source = source
        self._needs_keys = auth is None
        self._auth = auth or bearer_auth(name, self._app_of, _unauthorized)
        self._user_loader = user_loader
        self._guarded_stop = self._auth.login_required(self._stop)
        for number, route in enumerate(routes):
            self.add_url_rule(
                f"/{route.strip('/')}/<task_id>/stop",
                "stop" if number == 0 else f"stop_{number}",
                self._dispatch,
                methods=_METHODS,
                provide_automatic_options=False,
            )
        self.record(self._configure)
        self.register_error_handler(HTTPException, http_error_response)
        self.register_error_handler(InternalServerError, http_error_response)
        self.register_error_handler(WireError, wire_error_response)
        self.register_error_handler(BackendError, backend_error_response)
        self.teardown_app_request(_end_if_raised)
        self.app_errorhandler(InvalidParam)(_invalid_param)
        self.app_errorhandler(TaskExists)(_task_exists)
        self.app_errorhandler(TaskStopped)(_task_stopped)

    def login_required(self, view: F) -> F:
        """Let a view be called with a valid API key only, as the stop route is."""
        return self._auth.login_required(view)

    def start(
        self, *, user: str | None = None, task_id: str | None = None
    ) -> GenerationTask:
        """Begin a task that can be stopped from now on, in every worker.

        Call it in a view behind :meth:`login_required`, before anything slow. When
        the store is out of reach the task runs all the same.

        :param user: who may stop it, together with the app of the API key; may be
            left out with a ``user_loader``.
        :param task_id: 1 to 255 characters without a slash; a new UUID unless given.
            An id names one generation: it is taken until the retention is over.
        :raises InvalidParam: the user or the id cannot be one, or the user is not
            the one of the ``user_loader``.
        :raises TaskExists: the id is taken.
        :raises ConfigurationError: nobody is authenticated in this request.
        """
        state = self._state()
        if self._user_loader is not None:
            loaded = self._loaded_user()
            if loaded is None:
                raise InvalidParam(
                    "The user_loader gives no user: nobody is logged in."
                )
            if user not in (None, loaded):
                raise InvalidParam("user is not the user that the user_loader gives.")
            user = loaded
        if not is_id(user):
            raise InvalidParam("user must be a string of 1 to 255 characters.")
        if task_id is None:
            task_id = str(uuid.uuid4())
        elif not is_id(task_id) or "/" in task_id:
            raise InvalidParam("task_id must be 1 to 255 characters without a slash.")
        state.warn_of_processes()
        record = TaskRecord(task_id, self._owner(user), state.worker.id)
        task = GenerationTask(record, _current_app(), state.worker)
        task.begin()
        give_up_after(state.client_timeout)
        if has_request_context():
            reference = weakref.ref(task)
            after_this_request(partial(_end_if_refused, reference))
            g.setdefault("_chatstop_begun", []).append(reference)
        return task

    def stop_all(self, *, user: str, app: str | None = None) -> int:
        """Stop every task of a user, in every worker.

        :param app: the name behind the user's API key; that of the current request
            unless given.
        :returns: how many were running or stopping.
        :raises BackendError: the store failed.
        :raises ConfigurationError: no app is given and nobody is authenticated.
        :raises InvalidParam: the user cannot be one.
        """
        worker = self._state().worker
        if not is_id(user):
            raise InvalidParam("user must be a string of 1 to 255 characters.")
        app = self._owner(user).app if app is None else app
        stopped = worker.stop_all(app=app, source=self.source, user=user)
        for record in stopped:
            self._tell(record.task_id, record.owner, StopOutcome.STOPPING)
        return len(stopped)

    def openapi(self) -> dict[str, Any]:
        """Give the routes of the current app as an OpenAPI 3.0 document."""
        paths = [
            re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule.rule)
            for rule in self._rules(current_app)
        ]
        return document(
            paths,
            needs_key=self._needs_keys,
            needs_user=self._user_loader is None,
            missing_ok=self._state().missing_ok,
        )

    def _configure(self, setup: BlueprintSetupState) -> None:
        app: Flask = setup.app  # type: ignore[assignment]
        app.cli.add_command(commands)
        for rule in self._rules(app):
            rule.methods = _AnyMethod(rule.methods or ())
        if AppState.of(app).keys is None and self._needs_keys:
            raise ConfigurationError(
                'Nobody could be let in: set CHATSTOP_API_KEYS, like {"key": "app"},'
                " or give auth= to ChatStop()."
            )

    def _rules(self, app: Flask) -> Iterator[Rule]:
        for rule in app.url_map.iter_rules():
            if app.view_functions.get(rule.endpoint) == self._dispatch:
                yield rule

    def _state(self) -> AppState:
        state = current_app.extensions.get("chatstop")
        if not isinstance(state, AppState):
            raise ConfigurationError(
                f"ChatStop {self.name!r} is not registered on this app; call"
                " app.register_blueprint() with it."
            )
        return state

    def _app_of(self, key: object) -> str | None:
        keys = self._state().keys
        return None if keys is None else keys.app_of(key)

    def _owner(self, user: str) -> Owner:
        app = self._auth.current_user()
        if not is_id(app):
            raise ConfigurationError(
                f"current_user() of {self.name!r} gives a {type(app).__name__}: put the"
                " view behind login_required, and have it give the app's name, a"
                " string of 1 to 255 characters."
            )
        return Owner(app, self.source, user)

    def _loaded_user(self) -> str | None:
        if self._user_loader is None:
            return None
        user = self._user_loader()
        is_one = isinstance(user, str | int) and not isinstance(user, bool)
        if user is not None and not (is_one and is_id(str(user))):
            raise ConfigurationError(
                f"The user_loader of {self.name!r} must give a string of 1 to 255"
                " characters, a number, or None."
            )
        return None if user is None else str(user)

    def _dispatch(self, task_id: str, **_of_the_prefix: object) -> Response:
        if request.method != "POST":
            return method_response()
        try:
            answer = self._guarded_stop(task_id)
        except HTTPException as error:  # not for a page of the app's own
            return http_error_response(error)
        if isinstance(answer, Response):
            return as_json_error(answer)
        return as_json_error(current_app.make_response(answer))

    def _stop(self, task_id: str) -> Response:
        state = self._state()
        body = read_body()
        wait = read_wait()
        loaded = self._loaded_user()
        if self._user_loader is not None and loaded is None:
            raise WireError(403, "forbidden", "Nobody is logged in.")
        user = body.get("user", loaded)
        if not is_id(user):
            raise InvalidParam("user must be a string of 1 to 255 characters.")
        owner = self._owner(user)
        if loaded not in (None, user) or not is_id(task_id):
            outcome = StopOutcome.MISSING
        else:
            outcome = state.worker.stop_and_wait(task_id, owner, wait)
        if outcome is StopOutcome.MISSING:
            state.warn_of_processes()
        self._tell(task_id, owner, outcome)
        return outcome_response(outcome, state.missing_ok)

    def _tell(self, task_id: str, owner: Owner, outcome: StopOutcome) -> None:
        if stop_requested.receivers:
            app = _current_app()
            send(stop_requested, app, task_id=task_id, owner=owner, outcome=outcome)


def _check(
    source: object, auth: object, user_loader: object, routes: Sequence[str]
) -> None:
    """Refuse arguments of a ``ChatStop`` that could not work.

    :raises ConfigurationError: one of them is such.
    """
    if not is_id(source):
        raise ConfigurationError(
            f"source is {source!r}; give it a string of 1 to 255 characters."
        )
    if isinstance(routes, str) or not routes or not all(map(_is_route, routes)):
        raise ConfigurationError(
            f'routes is {routes!r}; give it a list, like ["chat-messages"].'
        )
    if user_loader is not None and not callable(user_loader):
        raise ConfigurationError(
            f"user_loader is a {type(user_loader).__name__}; give it a function."
        )
    if auth is not None and not (
        hasattr(auth, "login_required") and hasattr(auth, "current_user")
    ):
        raise ConfigurationError(
            f"auth is a {type(auth).__name__}; give it an object of flask-httpauth,"
            " or one with login_required and current_user()."
        )


def _is_route(route: object) -> bool:
    return isinstance(route, str) and bool(re.fullmatch(r"[^<>]*[^<>/][^<>]*", route))


def _current_app() -> Flask:
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    return app


def _end_if_refused(
    reference: weakref.ref[GenerationTask], response: Response
) -> Response:
    # The view has failed: its traceback may keep the task alive for long.
    task = reference()
    if task is not None and response.status_code >= 400:
        task.end(EndReason.FAILED)
    return response


def _end_if_raised(error: BaseException | None) -> None:
    # In debug mode and in tests there may be no answer, and the traceback is kept. Of
    # a client that leaves a stream_with_context() comes a GeneratorExit.
    if isinstance(error, Exception):
        for reference in g.get("_chatstop_begun", ()):
            if task := reference():
                task.end(EndReason.FAILED)


def _unauthorized(status: int) -> Response:
    return error_response(status, "unauthorized", "A valid API key is needed.")


def _invalid_param(error: InvalidParam) -> Response:
    return error_response(400, "invalid_param", str(error))


def _task_exists(error: TaskExists) -> Response:
    return error_response(409, "task_exists", str(error))


def _task_stopped(error: TaskStopped) -> Response:
    return stopped_response(error.task)

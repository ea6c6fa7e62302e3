"""The blueprint: ``ChatStop``, and its registering."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar
from uuid import UUID

from flask import Blueprint, Flask, Response, current_app
from flask.blueprints import BlueprintSetupState
from werkzeug.exceptions import HTTPException, InternalServerError
from werkzeug.routing import Rule

from flask_chatstop.cli import commands
from flask_chatstop.control import TaskControl
from flask_chatstop.errors import (
    BackendError,
    ConfigurationError,
    InvalidParam,
    TaskExists,
)
from flask_chatstop.formats import DifyEvents, StreamFormat
from flask_chatstop.generation.request_tasks import end_if_raised
from flask_chatstop.generation.task import TaskStopped
from flask_chatstop.openapi import document
from flask_chatstop.response import stopped_response
from flask_chatstop.route.arguments import check_arguments
from flask_chatstop.route.auth import Authenticator, Caller, bearer_auth, source_of
from flask_chatstop.route.events import EventsRoute
from flask_chatstop.route.responses import RouteError, error_response
from flask_chatstop.route.stop import METHODS, AnyMethod, StopRoute
from flask_chatstop.state import AppState

F = TypeVar("F", bound=Callable[..., Any])


class ChatStop(TaskControl, Blueprint):
    """A blueprint with the route ``POST /chat-messages/<task_id>/stop``.

    With ``CHATSTOP_EVENTS`` it also has ``GET /chat-messages/<task_id>/events``.

    ::

        chatstop = ChatStop()
        app.config["CHATSTOP_API_KEYS"] = {"demo-key": "my-app"}
        app.register_blueprint(chatstop, url_prefix="/v1")

    It can be registered on several apps. Several can be registered on one app, each
    with its own name, source and authenticator. The configuration is read when it is
    registered, see :mod:`flask_chatstop.config`.

    :param name: the blueprint's name, and the realm of its bearer keys.
    :param source: separates tasks begun here from those of another ``ChatStop``:
        neither can stop the other's. By default that of ``auth``, else
        ``service-api``.
    :param auth: :class:`SessionAuth`, :class:`FlaskLoginAuth` or
        :class:`SingleUserAuth`; a flask-httpauth object; or another
        :class:`Authenticator`. By default bearer keys.
    :param user_loader: returns the user of the current request, for instance from a
        session, or ``None``; by default that of ``auth``, if it has one. The ``user``
        in a body may then be left out. A ``user`` in a body that is another one is
        answered like a missing task.
    :param routes: what stands before ``/<task_id>/stop`` and ``/<task_id>/events``. The
        contract's family also has ``completion-messages`` and ``workflows/tasks``.
    :param format: a class of :mod:`flask_chatstop.formats`, or a function that makes
        an object of one: the format of ``stream_response`` where no other is given,
        and of the answer to a view that was left by :class:`TaskStopped`.
    :param options: for :class:`flask.Blueprint`.
    :raises ConfigurationError: an argument is invalid, or, when it is registered, a
        value in ``app.config``.
    """

    def __init__(
        self,
        name: str = "chatstop",
        *,
        source: str | None = None,
        auth: Authenticator | None = None,
        user_loader: Callable[[], str | int | UUID | None] | None = None,
        routes: Sequence[str] = ("chat-messages",),
        format: Callable[[], StreamFormat] = DifyEvents,
        **options: Any,
    ) -> None:
        if not isinstance(name, str):
            raise ConfigurationError(
                f"The name is a {type(name).__name__}. ChatStop is a blueprint: call"
                " app.register_blueprint(ChatStop())."
            )
        super().__init__(name, __name__, **options)
        source = source_of(auth) if source is None else source
        user_loader = user_loader or getattr(auth, "user_loader", None)
        check_arguments(source, auth, user_loader, routes, format)
        self._make_format = format
        self.source = source
        self._needs_keys = auth is None
        self._auth = auth or bearer_auth(name, self._app_of)
        self._caller = Caller(name, source, self._auth, user_loader)
        self._stop_route = StopRoute(self._caller, self._state)
        self._events_route = EventsRoute(self._caller, self._state)
        self._routes = [route.strip("/") for route in routes]
        self.record(self._configure)
        for error in (HTTPException, InternalServerError, RouteError, BackendError):
            self.register_error_handler(error, error_response)
        self.teardown_app_request(end_if_raised)
        self.app_errorhandler(InvalidParam)(error_response)
        self.app_errorhandler(TaskExists)(error_response)
        self.app_errorhandler(TaskStopped)(_answer_stopped)

    def login_required(self, view: F) -> F:
        """Call a view only with a valid API key, as the stop route is."""
        return self._auth.login_required(view)

    def openapi(self) -> dict[str, Any]:
        """Return the routes of the current app as an OpenAPI 3.0 document."""
        paths, events_paths = (
            [
                re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule.rule)
                for rule in self._rules(current_app, view)
            ]
            for view in (self._stop_route, self._events_route)
        )
        return document(
            paths,
            events_paths,
            needs_key=self._needs_keys,
            needs_user=self._caller.user_loader is None,
            missing_ok=self._state().missing_ok,
        )

    def _configure(self, setup: BlueprintSetupState) -> None:
        app: Flask = setup.app  # type: ignore[assignment]
        app.cli.add_command(commands)
        state = AppState.of(app)
        if state.is_enabled:
            self._add_routes(setup, "stop", self._stop_route)
            if state.event_writer is not None:
                self._add_routes(setup, "events", self._events_route)
        for view in (self._stop_route, self._events_route):
            for rule in self._rules(app, view):
                rule.methods = AnyMethod(rule.methods or ())
                self._check_alone(app, rule)
        if state.keys is None and self._needs_keys:
            raise ConfigurationError(
                "No request could be authenticated: set CHATSTOP_API_KEYS, like"
                ' {"key": "app"}, or give auth= to ChatStop().'
            )

    def _add_routes(
        self, setup: BlueprintSetupState, name: str, view: StopRoute | EventsRoute
    ) -> None:
        for number, route in enumerate(self._routes):
            setup.add_url_rule(
                f"/{route}/<task_id>/{name}",
                name if number == 0 else f"{name}_{number}",
                view.dispatch,
                methods=METHODS,
                provide_automatic_options=False,
            )

    def _rules(self, app: Flask, view: StopRoute | EventsRoute) -> Iterator[Rule]:
        for rule in app.url_map.iter_rules():
            if app.view_functions.get(rule.endpoint) == view.dispatch:
                yield rule

    def _check_alone(self, app: Flask, rule: Rule) -> None:
        # The first one would answer, and know no task of the other.
        for other in app.url_map.iter_rules():
            view = getattr(app.view_functions.get(other.endpoint), "__self__", None)
            if (
                isinstance(view, StopRoute | EventsRoute)
                and other is not rule
                and (other.rule, other.subdomain, other.host)
                == (rule.rule, rule.subdomain, rule.host)
            ):
                raise ConfigurationError(
                    f"{rule.endpoint!r} and {other.endpoint!r} have the same route,"
                    f" {rule.rule}; give one of them another url_prefix."
                )

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


def _answer_stopped(error: TaskStopped) -> Response:
    # A person's own stop is not shown to them as an error.
    return stopped_response(error.task)

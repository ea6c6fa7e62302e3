"""The stop request: checked in the order of key, body, task, then carried out."""

from collections.abc import Callable

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException

from flask_chatstop.backends import Owner, StopOutcome
from flask_chatstop.checks import MAX_ID, is_id
from flask_chatstop.errors import InvalidParam
from flask_chatstop.route.auth import Caller
from flask_chatstop.route.requests import read_body, read_wait
from flask_chatstop.route.responses import (
    RouteError,
    as_json_error,
    error_response,
    method_response,
    outcome_response,
)
from flask_chatstop.signals import send, stop_requested
from flask_chatstop.state import AppState

# The route accepts every method, so that a wrong one gets our JSON.
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE")


class AnyMethod(set[str]):
    """The methods of a rule that also accepts unknown ones."""

    # None would mean the same, but what lists an app's routes joins these.
    def __contains__(self, method: object) -> bool:
        return True


class StopRoute:
    """The view of the stop route.

    :param state: returns the state of the current app.
    """

    def __init__(self, caller: Caller, state: Callable[[], AppState]) -> None:
        self._caller = caller
        self._state = state
        self._guarded_stop = caller.auth.login_required(self._stop)

    def dispatch(self, task_id: str, **_of_the_prefix: object) -> Response:
        """Answer any request to the route; the contract's JSON for every error."""
        if request.method != "POST":
            return method_response()
        try:
            answer = self._guarded_stop(task_id)
        except HTTPException as error:  # before an error page of the app sees it
            return error_response(error)
        if isinstance(answer, Response):
            return as_json_error(answer)
        return as_json_error(current_app.make_response(answer))

    def _stop(self, task_id: str) -> Response:
        state = self._state()
        body = read_body()
        wait = read_wait()
        loaded = self._caller.loaded_user()
        if self._caller.user_loader is not None and loaded is None:
            raise RouteError(403, "forbidden", "Nobody is logged in.")
        user = check_user(body.get("user", loaded))
        owner = self._caller.owner(user)
        if loaded not in (None, user) or not is_id(task_id):
            outcome = StopOutcome.MISSING
        else:
            outcome = state.worker.stop_and_wait(task_id, owner, wait)
        if outcome is StopOutcome.MISSING:
            state.warn_of_processes()
        tell_receivers(task_id, owner, outcome)
        return outcome_response(outcome, state.missing_ok)


def check_user(user: object) -> str:
    """Return a valid user.

    :raises InvalidParam: it is invalid.
    """
    if not is_id(user):
        raise InvalidParam(f"user must be a string of 1 to {MAX_ID} characters.")
    return user


def tell_receivers(task_id: str, owner: Owner, outcome: StopOutcome) -> None:
    """Send ``stop_requested`` for the current app, if anybody receives it."""
    if stop_requested.receivers:
        send(
            stop_requested,
            this_app(),
            task_id=task_id,
            owner=owner,
            outcome=outcome,
        )


def this_app() -> Flask:
    """Return the current app itself, not its proxy."""
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    return app

"""The answers of the stop route: success, and every error as the contract's JSON."""

import json

from flask import Response, current_app, request
from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES

from flask_chatstop.backends import StopOutcome
from flask_chatstop.errors import BackendError, InvalidParam, NotLoggedIn, TaskExists
from flask_chatstop.logs import get_logger

logger = get_logger(__name__)


class RouteError(Exception):
    """A request that is answered with an error.

    :param status: the HTTP status.
    :param code: what is wrong, for programs.
    :param message: what is wrong, for people. The client sees it.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def error_response(error: Exception) -> Response:
    """Return an error as the JSON that the contract wants.

    The message is always ours: the text of other exceptions does not reach a client.
    """
    match error:
        case RouteError():
            return _json_error(error.status, error.code, error.message)
        case NotLoggedIn():
            return _json_error(401, "unauthorized", "Nobody is logged in.")
        case InvalidParam():
            return _json_error(400, "invalid_param", str(error))
        case TaskExists():
            return _json_error(409, "task_exists", str(error))
        case BackendError():
            logger.error("A stop could not be carried out: %s", error)
            return unavailable_response("The stop could not be carried out; try again.")
        case HTTPException():
            # With its own headers, like those that ask for authentication.
            return as_json_error(current_app.make_response(error.get_response()))
    raise error


def empty_response() -> Response:
    """Tell an ``EventSource`` not to connect again."""
    return _uncached(current_app.response_class(status=204))


def unavailable_response(message: str) -> Response:
    """Answer a request that needs a store which is away."""
    response = _json_error(503, "backend_unavailable", message)
    response.headers["Retry-After"] = "1"
    return response


def as_json_error(response: Response) -> Response:
    """Give an error response of somebody else the body that every error has."""
    status = response.status_code
    if status >= 400 and not response.is_json:
        phrase = HTTP_STATUS_CODES.get(status, "Error")  # an app may invent a status
        code = phrase.lower().replace(" ", "_")
        response.data = _json_error(status, code, f"{phrase}.").get_data()
        response.mimetype = "application/json"
        _uncached(response)
    return response


def outcome_response(outcome: StopOutcome, missing_ok: bool) -> Response:
    """Answer an authorised, well-formed stop."""
    if outcome is StopOutcome.MISSING and not missing_ok:
        response = _json_error(
            404, "task_not_found", "There is no such task of this user."
        )
    else:
        response = current_app.response_class(
            b'{"result":"success"}', mimetype="application/json"
        )
    response.headers.add("Chatstop-Outcome", outcome.value)
    return response


def method_response(
    allow: str = "POST, OPTIONS", advice: str = "Use POST to stop a task."
) -> Response:
    """Answer any method that the route does not serve."""
    if request.method == "OPTIONS":
        response = current_app.response_class()
    else:
        response = _json_error(405, "method_not_allowed", advice)
    response.headers["Allow"] = allow
    return response


def _json_error(status: int, code: str, message: str) -> Response:
    body = json.dumps({"code": code, "message": message, "status": status})
    mimetype = "application/json"
    return _uncached(current_app.response_class(body, status, mimetype=mimetype))


def _uncached(response: Response) -> Response:
    # A cache may keep 204, 404 and 405 of a GET. The same URL may have an answer soon.
    response.headers.setdefault("Cache-Control", "no-store")
    return response

"""What is read from and answered on the wire: bodies, ids, errors as JSON."""

import json
import logging
import re
from typing import NoReturn, TypeGuard

from flask import Response, current_app, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.http import HTTP_STATUS_CODES

from flask_chatstop.backends import StopOutcome
from flask_chatstop.errors import BackendError, InvalidParam

logger = logging.getLogger(__name__)

#: Bytes that the body of a stop may have.
MAX_BODY = 64 * 1024
#: Seconds that a stop may wait for the end of its task.
MAX_WAIT = 10.0
#: Characters that a user, a task id or an app's name may have.
MAX_ID = 255

_ALLOW = {"Allow": "POST, OPTIONS"}
_SURROGATE = re.compile("[\ud800-\udfff]")


class WireError(Exception):
    """A request that is answered with an error, in the contract's terms."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def is_id(value: object) -> TypeGuard[str]:
    """Tell whether a value can name a user or task in every store."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID or "\0" in value:
        return False
    return value.isascii() or not _SURROGATE.search(value)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse)


def read_body() -> dict[str, object]:
    """Read the JSON object that a stop request carries.

    :raises WireError: it carries something else.
    """
    if not request.is_json:
        raise WireError(
            415, "unsupported_media_type", "The Content-Type must be application/json."
        )
    try:
        body = _decoder.decode(_read_limited().decode("utf-8"))
    except (ValueError, RecursionError):
        raise WireError(400, "bad_request", "The body is not valid JSON.") from None
    if not isinstance(body, dict):
        raise WireError(400, "invalid_param", "The body must be a JSON object.")
    return body


def read_wait() -> float:
    """Read for how many seconds a stop request wants to wait for the task's end.

    :raises InvalidParam: that is no number from 0 to :data:`MAX_WAIT`.
    """
    if not request.query_string:
        return 0.0
    text = request.args.get("wait", "0")
    try:
        wait = float(text)
    except ValueError:
        wait = -1.0
    if not 0 <= wait <= MAX_WAIT:
        raise InvalidParam(f"wait must be a number of seconds from 0 to {MAX_WAIT:g}.")
    return wait


def _read_limited() -> bytes:
    # One more byte than allowed, since Werkzeug cuts a chunked body at the limit.
    request.max_content_length = MAX_BODY + 1
    try:
        data = request.get_data()
    except RequestEntityTooLarge:
        data = None
    except HTTPException:
        raise
    except Exception:
        # Each server has errors of its own for chunks that are none: gunicorn's have
        # no base but this one, and Werkzeug lets them through.
        logger.debug("A stop's body could not be read.", exc_info=True)
        raise WireError(400, "bad_request", "The body could not be read.") from None
    if data is None or len(data) > MAX_BODY:
        raise WireError(
            413, "request_entity_too_large", f"The body exceeds {MAX_BODY} bytes."
        )
    return data


def error_response(status: int, code: str, message: str) -> Response:
    """Make an error answer of the three fields that every error has."""
    body = json.dumps({"code": code, "message": message, "status": status})
    return current_app.response_class(body, status, mimetype="application/json")


def wire_error_response(error: WireError) -> Response:
    """Answer a request that breaks the contract."""
    return error_response(error.status, error.code, error.message)


def backend_error_response(error: BackendError) -> Response:
    """Answer a stop that the store could not take."""
    logger.error("A stop could not be carried out: %s", error)
    response = error_response(
        503, "backend_unavailable", "The stop could not be carried out; try again."
    )
    response.headers["Retry-After"] = "1"
    return response


def http_error_response(error: HTTPException) -> Response:
    """Answer an HTTP error of Werkzeug's as JSON, with its own headers."""
    return as_json_error(current_app.make_response(error.get_response()))


def as_json_error(response: Response) -> Response:
    """Give an error that somebody else answered the body that every error has."""
    status = response.status_code
    if status >= 400 and not response.is_json:
        phrase = HTTP_STATUS_CODES.get(status, "Error")  # an app may invent one
        code = phrase.lower().replace(" ", "_")
        response.data = error_response(status, code, f"{phrase}.").get_data()
        response.mimetype = "application/json"
    return response


def outcome_response(outcome: StopOutcome, missing_ok: bool) -> Response:
    """Answer an authorised, well-formed stop."""
    if outcome is StopOutcome.MISSING and not missing_ok:
        response = error_response(
            404, "task_not_found", "There is no such task of this user."
        )
    else:
        response = current_app.response_class(
            b'{"result":"success"}', mimetype="application/json"
        )
    response.headers.add("Chatstop-Outcome", outcome.value)
    return response


def method_response() -> Response:
    """Answer any method but POST."""
    if request.method == "OPTIONS":
        response = current_app.response_class()
    else:
        response = error_response(405, "method_not_allowed", "Use POST to stop a task.")
    response.headers.update(_ALLOW)
    return response

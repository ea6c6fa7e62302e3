"""Reading a stop request: its body and its query."""

import json
from typing import NoReturn

from flask import request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from flask_chatstop.errors import InvalidParam
from flask_chatstop.logs import get_logger
from flask_chatstop.route.responses import RouteError

logger = get_logger(__name__)

#: Bytes that the body of a stop may have.
MAX_BODY = 64 * 1024
#: Seconds that a stop may wait for the end of its task.
MAX_WAIT = 10.0


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse)


def read_body() -> dict[str, object]:
    """Return the JSON object that a stop request carries.

    :raises RouteError: it carries something else.
    """
    if not request.is_json:
        raise RouteError(
            415, "unsupported_media_type", "The Content-Type must be application/json."
        )
    try:
        body = _decoder.decode(_read_limited().decode("utf-8"))
    except (ValueError, RecursionError):
        raise RouteError(400, "bad_request", "The body is not valid JSON.") from None
    if not isinstance(body, dict):
        raise RouteError(400, "invalid_param", "The body must be a JSON object.")
    return body


def read_wait() -> float:
    """Return for how many seconds a stop request waits for the task's end.

    :raises InvalidParam: that is not a number from 0 to :data:`MAX_WAIT`.
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
    # One byte more than allowed, since Werkzeug cuts a chunked body at the limit.
    request.max_content_length = MAX_BODY + 1
    try:
        data = request.get_data()
    except RequestEntityTooLarge:
        data = None
    except HTTPException:
        raise
    except Exception:
        # A malformed chunk raises an error of the server's own, which Werkzeug lets
        # through. Those of gunicorn have no other base in common.
        logger.debug("The body of a stop could not be read.", exc_info=True)
        raise RouteError(400, "bad_request", "The body could not be read.") from None
    if data is None or len(data) > MAX_BODY:
        raise RouteError(
            413, "request_entity_too_large", f"The body exceeds {MAX_BODY} bytes."
        )
    return data

"""The routes as an OpenAPI 3.0 document, with all of their answers."""

import re
from collections.abc import Collection, Iterable
from typing import Any

from flask_chatstop.backends import StopOutcome
from flask_chatstop.checks import MAX_ID
from flask_chatstop.route.requests import MAX_WAIT

_ERROR = {"$ref": "#/components/schemas/ChatstopError"}
_OUTCOMES = [outcome.value for outcome in StopOutcome]
_USER = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_ID,
    "pattern": r"^[^\u0000]*$",
}


def document(
    paths: Collection[str],
    events_paths: Collection[str] = (),
    *,
    needs_key: bool,
    needs_user: bool,
    missing_ok: bool,
) -> dict[str, Any]:
    """Return the document of the stop routes at some paths.

    :param events_paths: those of the routes by which a client comes back to an answer.
    :param needs_key: whether the routes need a bearer API key.
    :param needs_user: whether the body must name the user.
    :param missing_ok: whether an unknown task is answered with success.
    """
    components: dict[str, Any] = {"schemas": {"ChatstopError": _error_schema()}}
    if needs_key:
        components["securitySchemes"] = {
            "ApiKeyAuth": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "API_KEY",
            }
        }
    operations = zip(paths, _operation_ids("stop", paths), strict=True)
    follows = zip(events_paths, _operation_ids("follow", events_paths), strict=True)
    return {
        "openapi": "3.0.3",
        "info": {"title": "Stop Chat Message Generation", "version": "1"},
        "paths": {
            path: {"post": _operation(path, name, needs_key, needs_user, missing_ok)}
            for path, name in operations
        }
        | {
            path: {"get": _follow(path, name, needs_key, needs_user)}
            for path, name in follows
        },
        "components": components,
    }


def _operation_ids(verb: str, paths: Iterable[str]) -> list[str]:
    words = (
        [w for w in path.split("/") if w.isidentifier() or "-" in w] for path in paths
    )
    return [verb + "".join(w.title().replace("-", "") for w in ws[:-1]) for ws in words]


def _operation(
    path: str, name: str, needs_key: bool, needs_user: bool, missing_ok: bool
) -> dict[str, Any]:
    body: dict[str, Any] = {"type": "object", "properties": {"user": _USER}}
    if needs_user:
        body["required"] = ["user"]
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": "Stop Chat Message Generation",
        "description": "Stop a generation in streaming mode, as the user who began it.",
        "parameters": [
            *(_path_parameter(name) for name in re.findall(r"{(\w+)}", path)),
            {
                "name": "wait",
                "in": "query",
                "description": "Seconds to wait for the task to report its end. Where"
                " too many wait already, the answer comes at once.",
                "schema": {"type": "number", "minimum": 0, "maximum": MAX_WAIT},
            },
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": body}},
        },
        "responses": _responses(needs_key, missing_ok),
    }
    if needs_key:
        operation["security"] = [{"ApiKeyAuth": []}]
    return operation


def _follow(path: str, name: str, needs_key: bool, needs_user: bool) -> dict[str, Any]:
    position = {"type": "string", "pattern": r"^([0-9]{1,9}|end)$"}
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": "Follow a Chat Message",
        "description": "Read an answer again, and go on with it until its end, as the"
        " user who asked for it.",
        "parameters": [
            *(_path_parameter(name) for name in re.findall(r"{(\w+)}", path)),
            {"name": "user", "in": "query", "required": needs_user, "schema": _USER},
            {
                "name": "after",
                "in": "query",
                "description": "The id of the last event that the client has.",
                "schema": position,
            },
            {
                "name": "Last-Event-ID",
                "in": "header",
                "description": "The same, as a browser sends it.",
                "schema": position,
            },
        ],
        "responses": {
            "200": {
                "description": "The answer, as the first client gets it.",
                "content": {"*/*": {"schema": {"type": "string"}}},
            },
            "204": {"description": "The client has the whole answer."},
            **_errors(needs_key, "The method is neither GET nor HEAD."),
            "404": _response("This user has no such answer.", _ERROR),
        },
    }
    if needs_key:
        operation["security"] = [{"ApiKeyAuth": []}]
    return operation


def _path_parameter(name: str) -> dict[str, Any]:
    parameter: dict[str, Any] = {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
    }
    if name == "task_id":
        parameter["description"] = "The task_id that the events of the stream carry."
    return parameter


def _responses(needs_key: bool, missing_ok: bool) -> dict[str, Any]:
    outcome = {"Chatstop-Outcome": _header({"type": "string", "enum": _OUTCOMES})}
    success = {
        "type": "object",
        "required": ["result"],
        "properties": {"result": {"type": "string", "enum": ["success"]}},
    }
    responses = {
        "200": _response("The task is stopping or has ended.", success, outcome),
        **_errors(needs_key, "The method is not POST."),
        "404": _response("This user has no such task.", _ERROR, outcome),
        "413": _response("The body is too large.", _ERROR),
        "415": _response("The body is not JSON.", _ERROR),
    }
    if missing_ok:
        del responses["404"]
    return responses


def _errors(needs_key: bool, wrong_method: str) -> dict[str, Any]:
    # The headers of an authenticator of the app are unknown.
    realm = {"WWW-Authenticate": _header({"type": "string"})} if needs_key else None
    allow = {"Allow": _header({"type": "string"})}
    return {
        "400": _response("The body or a parameter is malformed.", _ERROR),
        "401": _response("The request has no valid API key or login.", _ERROR, realm),
        "403": _response(
            "No user is logged in, or a page of another site has sent it.", _ERROR
        ),
        "405": _response(wrong_method, _ERROR, allow),
        "500": _response("The server failed.", _ERROR),
        "503": _response(
            "The store is unavailable; try again.",
            _ERROR,
            {"Retry-After": _header({"type": "integer"})},
        ),
    }


def _response(
    description: str, schema: dict[str, Any], headers: dict[str, Any] | None = None
) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": description,
        "content": {"application/json": {"schema": schema}},
    }
    if headers:
        response["headers"] = headers
    return response


def _header(schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "schema": schema}


def _error_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["code", "message", "status"],
        "properties": {
            "code": {"type": "string"},
            "message": {"type": "string"},
            "status": {"type": "integer"},
        },
        "additionalProperties": False,
    }

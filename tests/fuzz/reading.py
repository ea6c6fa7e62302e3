"""What the contract says of a request, read without a line of the package's own."""

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from tests.fuzz.roles import KEYS

MAX_BODY = 64 * 1024
MAX_ID = 255
MAX_WAIT = 10.0

_STOP = re.compile(r"/v1/chat-messages/([^/]+)/stop")
_HOST = re.compile(r"[a-z0-9-]{1,60}(?:\.[a-z0-9-]{1,60})*(?::[1-9]\d{0,3})?")
_BEARER = re.compile(r"(?i:bearer) +([!-~]+)")
_JSON = re.compile(r"(?i:application/json)[ \t]*(;.*)?")
_WAIT = re.compile(r"wait=(\d{1,9}(?:\.\d{1,9})?)")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Reading:
    """What may be answered to a request.

    :param statuses: one of these; ``None`` where the URL is none of the blueprint's.
    :param owner: app and user that a stop may be carried out for.
    :param task_id: the task that the path names.
    :param has_host: whether Werkzeug is sure to take the host for one. It refuses
        what cannot be one with a page of its own, before it looks at the path.
    """

    statuses: frozenset[int] | None
    owner: tuple[str, str] | None = None
    task_id: str = ""
    has_host: bool = True


class Refused(Exception):
    """The request breaks the contract: this is how it must be answered."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = frozenset(statuses)


class _Object(list[tuple[str, Any]]):
    """A JSON object with every member that it names, twice if it does so."""


def read(environ: dict[str, Any], body: bytes | None) -> Reading:
    """Read a request as its server has parsed it.

    Where the contract leaves open how to read it, several statuses are right.

    :param body: ``None`` if the server could not read it to its end.
    """
    path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
    # Werkzeug takes any number of slashes before a path for one.
    match = _STOP.fullmatch("/" + path.lstrip("/"))
    if match is None:
        return Reading(None)
    has_host = _HOST.fullmatch(environ.get("HTTP_HOST", "localhost")) is not None
    if environ["REQUEST_METHOD"] != "POST":
        status = 200 if environ["REQUEST_METHOD"] == "OPTIONS" else 405
        return Reading(frozenset([status]), has_host=has_host)
    unclear: set[int] = set()
    try:
        app = _app_of(environ.get("HTTP_AUTHORIZATION", ""), unclear)
        user = _user_of(environ, body, unclear)
        _check_wait(environ["QUERY_STRING"], unclear)
    except Refused as refused:
        return Reading(refused.statuses | unclear, has_host=has_host)
    return Reading(frozenset({200, *unclear}), (app, user), match[1], has_host)


def _app_of(authorization: str, unclear: set[int]) -> str:
    match = _BEARER.fullmatch(authorization)
    if match is not None and match[1] in KEYS:
        return KEYS[match[1]]
    # Blanks of other kinds around a key are nobody's secret.
    words = authorization.split()
    if len(words) == 2 and words[0].lower() == "bearer" and words[1] in KEYS:
        unclear.add(401)
        return KEYS[words[1]]
    raise Refused(401)


def _user_of(environ: dict[str, Any], body: bytes | None, unclear: set[int]) -> str:
    content_type = environ.get("CONTENT_TYPE", "")
    is_announced_large = int(environ.get("CONTENT_LENGTH") or 0) > MAX_BODY
    if is_announced_large or body is None:
        unclear.add(413)
    if _JSON.fullmatch(content_type) is None:
        if "json" not in content_type.lower():
            raise Refused(415)
        unclear.add(415)
    if body is None:
        raise Refused(400)
    if len(body) > MAX_BODY:
        raise Refused(413)
    if len(body) < int(environ.get("CONTENT_LENGTH") or 0):
        unclear.add(400)  # cut short, and JSON as far as it came
    user = _last_user(_parse(body, unclear))
    if not isinstance(user, str) or not 0 < len(user) <= MAX_ID:
        raise Refused(400)
    if "\0" in user or _SURROGATE.search(user):
        raise Refused(400)
    return user


def _parse(body: bytes, unclear: set[int]) -> object:
    # How deep is beyond reason is not said.
    if body.count(b"[") + body.count(b"{") > 100:
        unclear.add(400)
    try:
        return json.loads(
            body.decode(), object_pairs_hook=_Object, parse_constant=_no_json
        )
    except (ValueError, RecursionError):
        raise Refused(400) from None


def _no_json(constant: str) -> None:
    raise ValueError(constant)


def _last_user(document: object) -> object:
    members = document if isinstance(document, _Object) else []
    return dict(members).get("user")


def _check_wait(query: str, unclear: set[int]) -> None:
    match = _WAIT.fullmatch(query)
    if match is not None:
        if float(match[1]) > MAX_WAIT:
            raise Refused(400)
    elif any(name == "wait" for name, _ in parse_qsl(query, keep_blank_values=True)):
        unclear.add(400)  # which other spellings of a number are fine is not said

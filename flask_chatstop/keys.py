"""Bearer keys for flask-httpauth, compared as digests."""

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from flask_httpauth import HTTPTokenAuth

from flask_chatstop.errors import ConfigurationError
from flask_chatstop.wire import is_id

F = TypeVar("F", bound=Callable[..., Any])

_DIGEST = re.compile(r"sha256:([0-9a-fA-F]{64})")
# What can arrive as a token: Werkzeug reads a value with another "=" as parameters,
# see werkzeug.datastructures.Authorization.from_header.
_TOKEN = re.compile(r"[!-<>-~]+=*")


class Authenticator(Protocol):
    """What guards the stop route: any flask-httpauth object, or one like it.

    ``current_user()`` names the app, as a string, that the request came from.
    """

    def login_required(self, f: F) -> F: ...

    def current_user(self) -> object: ...


class ApiKeys:
    """The keys of one app's configuration, as digests, and the app behind each.

    :param keys: a mapping of key to app name; or a list of keys, each an app of its
        own. ``sha256:`` and the hex digest of a key may stand in the key's place.
    :raises ConfigurationError: a key or name cannot be one; the message holds none.
    """

    def __init__(self, keys: object) -> None:
        if not isinstance(keys, (Mapping, list, tuple, set, frozenset)):
            raise ConfigurationError(
                f"CHATSTOP_API_KEYS is a {type(keys).__name__}; make it a mapping of"
                ' key to app name, like {"key": "app"}, or a list, like ["key"].'
            )
        if not keys:
            raise ConfigurationError("CHATSTOP_API_KEYS is empty; put a key into it.")
        self._apps: list[tuple[bytes, str]] = []
        for position, key in enumerate(keys, 1):
            where = f"Key {position} of CHATSTOP_API_KEYS"
            digest = _digest(key, where)
            app = keys[key] if isinstance(keys, Mapping) else f"key-{digest.hex()[:12]}"
            if not is_id(app):
                raise ConfigurationError(
                    f"{where} has no proper app name; map it to 1 to 255 characters."
                )
            self._apps.append((digest, app))

    def app_of(self, key: object) -> str | None:
        """Find the app behind a key in constant time over all keys."""
        if not isinstance(key, str):
            return None
        digest = hashlib.sha256(key.encode("utf-8", "backslashreplace")).digest()
        found = None
        for known, app in self._apps:
            if hmac.compare_digest(known, digest):
                found = app
        return found


def _digest(key: object, where: str) -> bytes:
    if not isinstance(key, str) or not key:
        raise ConfigurationError(f"{where} is no text; make it a non-empty string.")
    if key.startswith("sha256:"):
        match = _DIGEST.fullmatch(key)
        if match is None:
            raise ConfigurationError(
                f"{where} is no digest; write sha256: and 64 hexadecimal digits."
            )
        return bytes.fromhex(match[1])
    if _TOKEN.fullmatch(key) is None:
        raise ConfigurationError(
            f"{where} could never arrive in a header; use letters, digits and -._~"
            " without spaces, and = only at its end."
        )
    return hashlib.sha256(key.encode()).digest()


class _BearerAuth(HTTPTokenAuth):  # type: ignore[misc]
    """Take an Authorization header that cannot be read for none."""

    def get_auth(self) -> Any:
        # Werkzeug raises it for a Basic one with a letter that is not ASCII in it.
        try:
            return super().get_auth()
        except ValueError:
            return None


def bearer_auth(
    realm: str, app_of: Callable[[object], str | None], on_error: Callable[[int], Any]
) -> Authenticator:
    """Make the flask-httpauth object that checks ``Authorization: Bearer KEY``.

    :param app_of: gives the app behind a key, ``None`` if there is none.
    :param on_error: makes the response to a request without a valid key.
    """
    auth = _BearerAuth("Bearer", realm=realm)
    auth.verify_token(app_of)
    auth.error_handler(on_error)
    checked: Authenticator = auth
    return checked

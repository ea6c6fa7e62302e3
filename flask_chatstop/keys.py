"""The API keys of an app's configuration, kept and compared as digests."""

import hashlib
import hmac
import re
from collections.abc import Mapping

from flask_chatstop.checks import MAX_ID, is_id
from flask_chatstop.errors import ConfigurationError

_DIGEST = re.compile(r"sha256:([0-9a-fA-F]{64})")
# What can arrive as a token. Werkzeug reads a value with another "=" as parameters,
# see werkzeug.datastructures.Authorization.from_header.
_TOKEN = re.compile(r"[!-<>-~]+=*")


class ApiKeys:
    """The API keys of one app, as digests, and the app name behind each.

    :param keys: a mapping of key to app name; or a list of keys, each an app of its
        own. ``sha256:`` and the hex digest of a key may stand in the key's place.
    :raises ConfigurationError: a key or name is invalid. The message contains no key.
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
                    f"{where} has an invalid app name; map it to a string of 1 to"
                    f" {MAX_ID} characters."
                )
            self._apps.append((digest, app))

    def app_of(self, key: object) -> str | None:
        """Return the app behind a key, in constant time over all keys."""
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
        raise ConfigurationError(f"{where} is not a non-empty string; make it one.")
    if key.startswith("sha256:"):
        match = _DIGEST.fullmatch(key)
        if match is None:
            raise ConfigurationError(
                f"{where} is not a digest; write sha256: and 64 hexadecimal digits."
            )
        return bytes.fromhex(match[1])
    if _TOKEN.fullmatch(key) is None:
        raise ConfigurationError(
            f"{where} could never arrive in a header; use letters, digits and -._~"
            " without spaces, and = only at its end."
        )
    return hashlib.sha256(key.encode()).digest()

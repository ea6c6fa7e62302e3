"""Which kind of store a URL names, or what to write in its place."""

import difflib
import re
from typing import Literal, NamedTuple

from flask_chatstop.errors import ConfigurationError

_REDIS = ("redis", "rediss", "unix", "valkey", "valkeys")
#: Databases, with the driver that a URL is used with.
_DRIVERS = {
    "sqlite": "pysqlite",
    "postgresql": "psycopg",
    "mysql": "pymysql",
    "mariadb": "pymysql",
}
_SCHEMES = ("memory", *_DRIVERS, *_REDIS)
#: What other packages and hosts call the same.
_SAME = {"postgres": "postgresql"}
_HINTS = {
    "pg": "postgresql",
    "pgsql": "postgresql",
    "psql": "postgresql",
    "redis+socket": "unix",
    "redis+unix": "unix",
    "rediss+unix": "unix",
    "socket": "unix",
}
_ANY = f"use a URL that begins with {', '.join(f'{name}://' for name in _SCHEMES)}."


class StoreUrl(NamedTuple):
    """A URL whose scheme a store has.

    :param text: the URL, with the scheme as its store writes it.
    """

    kind: Literal["memory", "redis", "database"]
    text: str


def store_url(url: str) -> StoreUrl:
    """Return which kind of store a URL names.

    ``postgres://``, which hosts hand out, is ``postgresql://``. A driver that the
    stores do not use is refused, and not replaced: its options may mean something else.

    :raises ConfigurationError: no store has the scheme; the message shows no more of
        the URL, since that may be a password.
    """
    url = url.strip()
    found = re.match(r"([a-z][a-z0-9.+-]*):(.*)", url, re.IGNORECASE | re.DOTALL)
    scheme, rest = (found[1].lower(), found[2]) if found else ("", "")
    if scheme == "memory" or url == "memory":
        return StoreUrl("memory", url)
    if not rest.startswith("//"):
        raise ConfigurationError(f"It is not a URL; {_ANY}")
    name, _, driver = scheme.partition("+")
    name = _SAME.get(name, name)
    if name in _REDIS and not driver:
        return StoreUrl("redis", f"{name}:{rest}")
    if name not in _DRIVERS:
        raise ConfigurationError(
            f"No store has the scheme {scheme}://; {_hint(scheme)}"
        )
    if driver not in ("", _DRIVERS[name]):
        raise ConfigurationError(
            f"No store uses the driver {driver}; write {name}://, which uses"
            f" {_DRIVERS[name]}, or pass a DatabaseBackend or a DatabaseEventLog with"
            " an engine of yours."
        )
    return StoreUrl("database", f"{'+'.join(filter(None, (name, driver)))}:{rest}")


def _hint(scheme: str) -> str:
    if "redis" in scheme and re.search("sentinel|cluster", scheme):
        return (
            "pass a RedisBackend or a RedisEventLog with redis-py's client for a"
            " Sentinel or a Cluster."
        )
    words = re.split(r"[+.-]", scheme)
    near = difflib.get_close_matches(words[0], _SCHEMES, 1, 0.8)
    meant = _HINTS.get(scheme) or next(
        (word for word in [*near, *words] if word in _SCHEMES), None
    )
    return _ANY if meant is None else f"write {meant}://."

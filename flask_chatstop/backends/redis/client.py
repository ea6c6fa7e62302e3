"""The connection to Redis: clients that a URL names, and the driver's errors."""

import importlib
import socket
from types import ModuleType
from typing import Any, NoReturn, Protocol
from urllib.parse import urlsplit

from flask_chatstop.backends.secrets import has_unquoted_at, text_of_others
from flask_chatstop.errors import BackendError, ConfigurationError, RecordRefused

_ACL_ADVICE = (
    "Let the ACL user run EVAL, EVALSHA, SUBSCRIBE, PUBLISH, PING, TIME, HMGET, HSET,"
    " PTTL, PEXPIRE and SCAN on the keys and channels that begin with the prefix."
)
_ADVICE = {
    "read only replica": "Give it the URL of the primary.",
    "maxmemory": "Give the server memory, or a maxmemory-policy that evicts.",
    "no permissions": _ACL_ADVICE,
    "user executing the script": _ACL_ADVICE,
}
# Replies that are about one key or its values. The driver has no classes for them.
# A server without memory refuses a new task, and goes on with those that it knows.
_REFUSALS = (
    "WRONGTYPE",
    "exceeds maximum allowed size",
    "invalid bulk length",
    "used memory > 'maxmemory'",
)
_OF_A_REPLICA = ("read only replica", "Link with MASTER is down")


class RedisClient(Protocol):
    """What the backend calls on a ``redis.Redis`` or a ``redis.RedisCluster``."""

    def execute_command(self, *args: Any, **options: Any) -> Any: ...

    def pipeline(self, transaction: Any = ...) -> Any: ...

    def pubsub(self, **options: Any) -> Any: ...

    def scan_iter(self, match: Any = ..., count: Any = ...) -> Any: ...


def connect(url: str, timeout: float) -> Any:
    """Return a client that connects at its first command and does not retry.

    :raises ConfigurationError: redis-py is missing or does not understand the URL.
    """
    try:
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.exceptions import RedisError
        from redis.retry import Retry
    except ImportError as error:
        raise ConfigurationError(
            "A Redis or Valkey URL needs a package that is not installed; run"
            ' pip install "flask_chatstop[redis]".'
        ) from error
    scheme, _, address = url.partition("://")
    scheme = scheme.lower()
    scheme = {"valkey": "redis", "valkeys": "rediss"}.get(scheme, scheme)
    # RESP 2: with RESP 3, redis-py 8 needs more round trips to open a connection, and
    # does not notice that the server has closed a pooled one.
    options: dict[str, Any] = {"protocol": 2, "socket_timeout": timeout}
    options["retry"] = Retry(NoBackoff(), 0)
    # No limit below the number of calls at once: redis-py 8 refuses the 101st.
    options["max_connections"] = 2**31
    if scheme == "unix" and not hasattr(socket, "AF_UNIX"):
        raise ConfigurationError(
            "This system has no Unix sockets; name a host and a port in the Redis URL,"
            " like redis://127.0.0.1:6379/0."
        )
    if scheme != "unix":
        options |= {"socket_connect_timeout": timeout, "socket_keepalive": True}
    try:
        if scheme != "unix":
            _, _, path, _, fragment = urlsplit(f"//{address}")
            if has_unquoted_at(url) or "@" in path + fragment:
                raise ValueError("a password with an unquoted character")
            if path.strip("/"):
                int(path.strip("/"))  # redis-py would take another path for database 0
        client = Redis.from_url(f"{scheme}://{address}", **options)
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)
    except (RedisError, TypeError, ValueError):
        # Their message is left out, since it may quote the password of the URL.
        raise ConfigurationError(
            "The Redis URL is invalid; write it like"
            " redis://user:password@host:6379/0, with the number of the database after"
            " the slash, %XX for /, @, # and ? in a password, and redis-py's options"
            " after a question mark."
        ) from None
    return client


def exceptions_of(client: object) -> ModuleType:
    """Return the exceptions of the package that made a client, redis-py or valkey-py.

    :raises ConfigurationError: neither made it.
    """
    modules = [base.__module__.split(".") for base in type(client).__mro__]
    for package in ("redis", "valkey"):
        made_it = any(module[0] == package for module in modules)
        is_async = [package, "asyncio"] in [module[:2] for module in modules]
        if made_it and not is_async and hasattr(client, "execute_command"):
            return importlib.import_module(f"{package}.exceptions")
    raise ConfigurationError(
        f"RedisBackend got a {type(client).__name__}; pass it a URL, or a client of"
        " redis-py that is not asynchronous."
    )


def is_of_a_replica(error: Exception) -> bool:
    """Return whether the server has ceased to be the primary."""
    return any(sign in str(error) for sign in _OF_A_REPLICA)


def raise_as_backend_error(error: Exception) -> NoReturn:
    """Raise an error as a :class:`BackendError` that says what to do."""
    if isinstance(error, BackendError):
        raise error
    message = str(error) or type(error).__name__
    package = type(error).__module__.partition(".")[0]
    if package not in ("redis", "valkey") and not isinstance(error, OSError):
        message = text_of_others(error)  # of a caller's credential provider, say
    advice = "".join(f" {text}" for sign, text in _ADVICE.items() if sign in message)
    is_refusal = isinstance(error, UnicodeEncodeError) or any(
        sign in message for sign in _REFUSALS
    )
    kind = RecordRefused if is_refusal else BackendError
    raise kind(f"Redis failed: {message}{advice}") from error

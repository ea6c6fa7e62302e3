"""Calls of scripts on a Redis, each in one round trip and in time."""

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from flask_chatstop.backends.redis.client import (
    RedisClient,
    connect,
    exceptions_of,
    is_of_a_replica,
    raise_as_backend_error,
)
from flask_chatstop.backends.redis.script_calls import Call, key
from flask_chatstop.logs import get_logger

logger = get_logger(__name__)

T = TypeVar("T")

#: How many commands are sent in one round trip.
_CHUNK = 500


class Redis:
    """A Redis, through a client of a URL or of a caller.

    :param prefix: the beginning of every key.
    :param timeout: seconds that a call on the client of a URL may take.
    """

    def __init__(
        self, url_or_client: str | RedisClient, *, prefix: str, timeout: float
    ) -> None:
        self._url = url_or_client if isinstance(url_or_client, str) else None
        self.client: Any = url_or_client
        if self._url is not None:
            self.client = connect(self._url, timeout)
        #: How often all connections were dropped, since they led to a wrong server.
        self.connections_dropped = 0
        self._driver = exceptions_of(self.client)
        self._prefix = prefix
        self._timeout = timeout

    def run(self, call: Call) -> Any:
        """Return the reply of a script.

        :raises BackendError: it failed.
        """
        return self._exchange(partial(self._send, call))

    def run_all(self, iterable: Iterable[Call]) -> list[tuple[Call, Any]]:
        """Return each call with the reply of its script.

        :raises BackendError: one of them failed.
        """
        replies: list[Any] = []
        calls = self._exchange(lambda: list(iterable))  # an id may be unencodable
        for start in range(0, len(calls), _CHUNK):
            chunk = calls[start : start + _CHUNK]
            replies += self._exchange(partial(self._send_all, chunk))
        return list(zip(calls, replies, strict=True))

    def command(self, *words: str | int) -> Any:
        """Return the reply to a command.

        :raises BackendError: it failed.
        """
        return self._exchange(lambda: self.client.execute_command(*words))

    def keys(self, pattern: str) -> list[str | bytes]:
        """Return the keys that match a pattern; some may come twice."""
        return self._exchange(lambda: list(self.client.scan_iter(pattern, 1000)))

    def close(self) -> None:
        """Close the connections, unless the client is the caller's."""
        if self._url is not None:
            self.client.close()

    def after_fork(self) -> None:
        """Leave the connections to the parent."""
        # A caller's client detects the fork by itself. Our own is replaced. A thread of
        # the parent may have held the lock of its pool at the fork, so the driver must
        # not take that lock when the old client is collected.
        if self._url is not None:
            self.client.auto_close_connection_pool = False
            self.client = connect(self._url, self._timeout)

    def _send(self, call: Call) -> Any:
        try:
            return self.client.execute_command(*self._by_digest(call))
        except self._driver.NoScriptError:
            return self.client.execute_command(*self._by_text(call))

    def _send_all(self, calls: Sequence[Call]) -> list[Any]:
        replies: list[Any] = []
        for as_command in (self._by_digest, self._by_text):
            pipeline = self.client.pipeline(transaction=False)
            for call in calls:
                pipeline.execute_command(*as_command(call))
            replies = pipeline.execute(raise_on_error=False)
            if not any(isinstance(r, self._driver.NoScriptError) for r in replies):
                break
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    def _by_digest(self, call: Call) -> tuple[str | int | bytes, ...]:
        return "EVALSHA", call.script.digest, *self._on_keys(call)

    def _by_text(self, call: Call) -> tuple[str | int | bytes, ...]:
        return "EVAL", call.script.text, *self._on_keys(call)

    def _on_keys(self, call: Call) -> tuple[str | int | bytes, ...]:
        keys = [self._prefix + key(task_id) for task_id in call.task_ids]
        return len(keys), *keys, *call.arguments

    def _exchange(self, send: Callable[[], T]) -> T:
        try:
            return self._try_twice(send)
        except Exception as error:
            # Of any class: drivers let OSError through, and the errors of their cluster
            # clients share no base class with the others.
            raise_as_backend_error(error)

    def _try_twice(self, send: Callable[[], T]) -> T:
        began = time.monotonic()
        try:
            return send()
        except (self._driver.ConnectionError, self._driver.ResponseError) as error:
            # A load balancer that has dropped an idle connection reports it only to
            # the next command. A second try shows whether the server is away.
            is_cut = isinstance(error, self._driver.ConnectionError)
            # The primary has changed behind its address, and this connection still
            # leads to the old one.
            is_outdated = is_of_a_replica(error)
            is_late = time.monotonic() - began > self._timeout / 4
            if is_late or not (is_cut or is_outdated):
                raise
            refusal = str(error)
        if is_outdated:
            self._drop_connections()
        reply = send()
        if is_outdated:
            logger.warning("Opened new connections, which serve: Redis: %s", refusal)
        return reply

    def _drop_connections(self) -> None:
        self.connections_dropped += 1
        # A cluster client has many pools, and learns of each change by itself.
        if pool := getattr(self.client, "connection_pool", None):
            pool.disconnect(inuse_connections=False)

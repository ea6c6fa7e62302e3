"""The backend that keeps tasks in Redis or Valkey."""

import re
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing as closed_after
from functools import partial
from operator import itemgetter
from typing import Any, TypeVar

from flask_chatstop.backends.base import (
    EndReason,
    Owner,
    StopBackend,
    StopOutcome,
    TaskInfo,
    TaskRecord,
)
from flask_chatstop.backends.redis import scripts
from flask_chatstop.backends.redis.client import (
    RedisClient,
    connect,
    exceptions_of,
    raise_as_backend_error,
)
from flask_chatstop.backends.redis.listener import messages_on
from flask_chatstop.errors import ConfigurationError

T = TypeVar("T")

#: How many commands are sent in one round trip.
_CHUNK = 500


class RedisBackend(StopBackend):
    """Serve any number of processes on any number of hosts, through Redis or Valkey.

    Each task is one key of about 300 bytes, which expires with its lease or retention.
    A server may lose its data by a restart or by eviction. It has the running tasks
    again when their workers next renew them.

    A client of yours keeps its own timeouts, retries and pool, and is not closed. Set
    its timeouts: ``timeout`` then limits only the waits of the listener.

    :param url_or_client: ``redis://``, ``rediss://``, ``unix://``, ``valkey://`` or
        ``valkeys://``; or a ``redis.Redis``, Sentinel's ``master_for()`` or a
        ``redis.RedisCluster``, or valkey-py's.
    :param prefix: the beginning of every key and channel. Apps that share a server and
        must not share tasks need one each.
    :raises ConfigurationError: the URL or the client is invalid.
    """

    def __init__(
        self,
        url_or_client: str | RedisClient,
        *,
        prefix: str = "chatstop:",
        lease: float = 60.0,
        retention: float = 600.0,
        timeout: float = 2.0,
    ) -> None:
        super().__init__(lease=lease, retention=retention, timeout=timeout)
        if not isinstance(prefix, str):
            raise ConfigurationError(f"prefix is {prefix!r}; set it to a string.")
        self._prefix = prefix
        self._channels = f"{prefix}worker:"
        self._url = url_or_client if isinstance(url_or_client, str) else None
        self._client: Any = url_or_client
        if self._url is not None:
            self._client = connect(self._url, self.timeout)
        self._driver = exceptions_of(self._client)

    def announce(self, record: TaskRecord) -> bool:
        return bool(self._run(scripts.announce(record, self.lease)))

    def renew(self, records: Sequence[TaskRecord]) -> None:
        self._run_all(scripts.renew(records, self.lease, self.retention))

    def stop(self, task_id: str, owner: Owner) -> StopOutcome:
        call = scripts.stop(task_id, owner, self._channels, self.retention)
        reply = self._run(call)
        return StopOutcome(_text(reply))

    def end(self, record: TaskRecord, reason: EndReason) -> None:
        self._run(scripts.end(record, reason, self.retention))

    def stops(self, worker_id: str, task_ids: Collection[str]) -> set[str]:
        replies = self._run_all(scripts.stopping(task_ids, worker_id))
        return {_text(task_id) for reply in replies for task_id in reply}

    def tasks(
        self,
        *,
        task_id: str | None = None,
        app: str | None = None,
        source: str | None = None,
        user: str | None = None,
    ) -> list[TaskInfo]:
        task_ids = self._task_ids() if task_id is None else [task_id]
        calls = [scripts.info(task_id) for task_id in task_ids]
        found: list[tuple[float, TaskInfo]] = []
        for found_id, reply in zip(task_ids, self._run_all(calls), strict=True):
            if reply:
                started_at, state, packed, worker_id, age = map(_text, reply)
                owner = scripts.unpacked(packed)
                if owner.matches(app, source, user):
                    record = TaskRecord(found_id, owner, worker_id)
                    info = TaskInfo(record, state == "stopping", float(age))
                    found.append((float(started_at), info))
        return [info for _, info in sorted(found, key=itemgetter(0))]

    def _task_ids(self) -> list[str]:
        pattern = re.sub(r"([\\*?\[\]^-])", r"\\\1", self._prefix) + "*"
        scan = partial(self._client.scan_iter, pattern, 1000)
        keys = self._exchange(lambda: list(scan()))
        found = {_text(key).removeprefix(self._prefix) for key in keys}
        return list(map(scripts.task_id_of, found))

    def listen(
        self,
        worker_id: str,
        running: Callable[[], Collection[str]],
        heard: Callable[[Collection[str]], None],
        closing: threading.Event,
    ) -> None:
        channel = self._channels + worker_id
        messages = messages_on(self._client, channel, closing, self.timeout)
        try:
            with closed_after(messages):
                for message in messages:
                    # A repeated one follows an interruption that lost messages.
                    if message["type"] == "subscribe":
                        heard(self.stops(worker_id, running()))
                    elif message["type"] == "message":
                        heard([_text(message["data"])])
        except Exception as error:
            # Whoever ends the listening may close the client without waiting for it.
            if not closing.is_set():
                raise_as_backend_error(error)

    def check(self) -> None:
        record = TaskRecord(uuid.uuid4().hex, Owner("", "", "check"), uuid.uuid4().hex)
        self._run_all(
            [
                scripts.announce(record, self.timeout),
                scripts.stop(record.task_id, record.owner, self._channels, 0.001),
                scripts.end(record, EndReason.STOPPED, 0.001),
            ]
        )

    def close(self) -> None:
        if self._url is not None:
            self._client.close()

    def after_fork(self) -> None:
        # A caller's client detects the fork by itself. Our own is replaced. A thread of
        # the parent may have held the lock of its pool at the fork, so the driver must
        # not take that lock when the old client is collected.
        if self._url is not None:
            self._client.auto_close_connection_pool = False
            self._client = connect(self._url, self.timeout)

    def _run(self, call: scripts.Call) -> Any:
        return self._exchange(partial(self._send, call))

    def _send(self, call: scripts.Call) -> Any:
        try:
            return self._client.execute_command(*self._by_digest(call))
        except self._driver.NoScriptError:
            return self._client.execute_command(*self._by_text(call))

    def _run_all(self, iterable: Iterable[scripts.Call]) -> list[Any]:
        replies: list[Any] = []
        calls = self._exchange(lambda: list(iterable))  # an id may be unencodable
        for start in range(0, len(calls), _CHUNK):
            chunk = calls[start : start + _CHUNK]
            replies += self._exchange(partial(self._send_all, chunk))
        return replies

    def _send_all(self, calls: Sequence[scripts.Call]) -> list[Any]:
        replies: list[Any] = []
        for as_command in (self._by_digest, self._by_text):
            pipeline = self._client.pipeline(transaction=False)
            for call in calls:
                pipeline.execute_command(*as_command(call))
            replies = pipeline.execute(raise_on_error=False)
            if not any(isinstance(r, self._driver.NoScriptError) for r in replies):
                break
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    def _by_digest(self, call: scripts.Call) -> tuple[str | int, ...]:
        return "EVALSHA", call.script.digest, *self._on_keys(call)

    def _by_text(self, call: scripts.Call) -> tuple[str | int, ...]:
        return "EVAL", call.script.text, *self._on_keys(call)

    def _on_keys(self, call: scripts.Call) -> tuple[str | int, ...]:
        keys = [self._prefix + scripts.key(task_id) for task_id in call.task_ids]
        return len(keys), *keys, *call.arguments

    def _exchange(self, send: Callable[[], T]) -> T:
        began = time.monotonic()
        try:
            try:
                return send()
            except self._driver.ConnectionError:
                # A load balancer that has dropped an idle connection reports it only to
                # the next command. A second try shows whether the server is away.
                if time.monotonic() - began > self.timeout / 4:
                    raise
                return send()
        except Exception as error:
            # Of any class: drivers let OSError through, and the errors of their cluster
            # clients share no base class with the others.
            raise_as_backend_error(error)


def _text(reply: str | bytes) -> str:
    return reply if isinstance(reply, str) else reply.decode()

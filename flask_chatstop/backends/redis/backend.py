"""The backend that keeps tasks in Redis or Valkey."""

import re
import threading
import uuid
from collections.abc import Callable, Collection, Sequence
from contextlib import closing as closed_after
from operator import itemgetter

from flask_chatstop.backends.base import (
    EndReason,
    Owner,
    StopBackend,
    StopOutcome,
    TaskInfo,
    TaskRecord,
)
from flask_chatstop.backends.redis import script_calls
from flask_chatstop.backends.redis.client import RedisClient, raise_as_backend_error
from flask_chatstop.backends.redis.connection import Redis
from flask_chatstop.backends.redis.listener import messages_on
from flask_chatstop.errors import ConfigurationError


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
        if hasattr(url_or_client, "get_random_node") and re.match(r"[^{]*{}", prefix):
            raise ConfigurationError(
                f"prefix is {prefix!r}; set it to one without {{}}: a cluster would not"
                " keep the keys of one tag together."
            )
        self._prefix = prefix
        self._channels = f"{prefix}worker:"
        self._redis = Redis(url_or_client, prefix=prefix, timeout=self.timeout)

    def announce(self, record: TaskRecord) -> bool:
        return bool(self._redis.run(script_calls.announce(record, self.lease)))

    def renew(self, records: Sequence[TaskRecord]) -> set[str]:
        calls = script_calls.renew(records, self.lease, self.retention)
        replies = self._redis.run_all(calls)
        return {call.task_ids[int(n) - 1] for call, reply in replies for n in reply}

    def stop(self, task_id: str, owner: Owner) -> StopOutcome:
        call = script_calls.stop(task_id, owner, self._channels, self.retention)
        reply = self._redis.run(call)
        return StopOutcome(_text(reply))

    def end(self, record: TaskRecord, reason: EndReason) -> bool:
        return bool(self._redis.run(script_calls.end(record, reason, self.retention)))

    def stops(self, worker_id: str, task_ids: Collection[str]) -> set[str]:
        replies = self._redis.run_all(script_calls.stopping(task_ids, worker_id))
        return {_text(task_id) for _, reply in replies for task_id in reply}

    def tasks(
        self,
        *,
        task_id: str | None = None,
        app: str | None = None,
        source: str | None = None,
        user: str | None = None,
    ) -> list[TaskInfo]:
        task_ids = self._task_ids() if task_id is None else [task_id]
        calls = [script_calls.info(task_id) for task_id in task_ids]
        found: list[tuple[float, TaskInfo]] = []
        for call, reply in self._redis.run_all(calls):
            if reply:
                *texts, left = reply
                started_at, state, packed, worker_id, age = map(_text, texts)
                owner = script_calls.unpacked(packed)
                if owner.matches(app, source, user):
                    record = TaskRecord(call.task_ids[0], owner, worker_id)
                    is_stopping = state == "stopping"
                    info = TaskInfo(record, is_stopping, float(age), left / 1000)
                    found.append((float(started_at), info))
        return [info for _, info in sorted(found, key=itemgetter(0))]

    def has_ended(self, task_id: str, owner: Owner) -> bool:
        return bool(self._redis.run(script_calls.has_ended(task_id, owner)))

    def _task_ids(self) -> list[str]:
        pattern = re.sub(r"([\\*?\[\]^-])", r"\\\1", self._prefix) + "*"
        found = {
            _text(key).removeprefix(self._prefix) for key in self._redis.keys(pattern)
        }
        return list(map(script_calls.task_id_of, found))

    def listen(
        self,
        worker_id: str,
        running: Callable[[], Collection[str]],
        heard: Callable[[Collection[str]], None],
        closing: threading.Event,
    ) -> None:
        channel = self._channels + worker_id
        before = self._redis.connections_dropped

        def is_over() -> bool:
            return closing.is_set() or self._redis.connections_dropped != before

        messages = messages_on(self._redis.client, channel, is_over, self.timeout)
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
        self._redis.run_all(
            [
                script_calls.announce(record, self.timeout),
                script_calls.stop(record.task_id, record.owner, self._channels, 0.001),
                script_calls.end(record, EndReason.STOPPED, 0.001),
            ]
        )

    def close(self) -> None:
        self._redis.close()

    def after_fork(self) -> None:
        self._redis.after_fork()


def _text(reply: str | bytes) -> str:
    return reply if isinstance(reply, str) else reply.decode()

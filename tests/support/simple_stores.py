"""Stores for SimpleBackend: a dictionary, a file, and Redis by compare-and-swap."""

import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis

from flask_chatstop import BackendError, SimpleBackend, TaskEntry
from flask_chatstop.backends.entry import Change
from tests.support.pages import blocks


class DictBackend(SimpleBackend):
    """Serve the threads of one process."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.stored: dict[str, TaskEntry] = {}
        self.later = 0.0
        self._lock = threading.Lock()

    def now(self) -> float:
        return time.time() + self.later

    def change(self, task_id: str, fn: Change) -> None:
        with self._lock:
            entry = fn(self.stored.pop(task_id, None))
            if entry is not None:
                self.stored[task_id] = entry

    def entries(self) -> list[TaskEntry]:
        with self._lock:
            return list(self.stored.values())


class WatchBackend(SimpleBackend):
    """Serve processes of many hosts, through Redis, without a script."""

    def __init__(self, url: str, *, prefix: str, **options: Any) -> None:
        super().__init__(**options)
        self._prefix = prefix
        self.client: Any = redis.Redis.from_url(
            url, socket_timeout=self.timeout, max_connections=1000
        )

    def now(self) -> float:
        with _failures():
            seconds, microseconds = self.client.time()
        return float(seconds + microseconds / 1e6)

    def change(self, task_id: str, fn: Change) -> None:
        key = self._prefix + task_id
        deadline = time.monotonic() + self.timeout
        with _failures(), self.client.pipeline() as pipeline:
            while time.monotonic() < deadline:
                pipeline.watch(key)
                text = pipeline.get(key)
                old = TaskEntry.from_json(text) if text else None
                new = fn(old)
                if new == old:
                    return
                pipeline.multi()
                if new is None:
                    pipeline.delete(key)
                else:
                    until = int(1000 * new.keep_until) + 1
                    pipeline.set(key, new.to_json(), pxat=until)
                with suppress(redis.WatchError):
                    pipeline.execute()
                    return
        raise BackendError(f"Others were faster for {self.timeout} s.")

    def entries(self) -> list[TaskEntry]:
        with _failures():
            return self._read(list(self.client.scan_iter(f"{self._prefix}*", 1000)))

    def entries_of(self, task_ids: Collection[str]) -> list[TaskEntry]:
        with _failures():
            return self._read([self._prefix + task_id for task_id in task_ids])

    def _read(self, keys: list[str]) -> list[TaskEntry]:
        texts = self.client.mget(keys) if keys else []
        return [TaskEntry.from_json(text) for text in texts if text]


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        raise BackendError(f"Redis failed: {error}") from error


def file_backend(path: Path, **options: Any) -> SimpleBackend:
    """Open the backend that the page on backends shows."""
    names: dict[str, Any] = {}
    exec(blocks("writing-a-backend.md", "python")[0], names)
    backend: SimpleBackend = names["FileBackend"](path, **options)
    return backend

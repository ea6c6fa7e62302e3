"""What the job queues of the benchmark share: a worker, and a job that reads."""

import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import redis

from tests.support.paths import ROOT

#: Names the Redis of a worker, for the code that runs there.
REDIS = "JOB_QUEUE_REDIS"


def read(url: str, end: str) -> None:
    """Read an answer, and keep the moment in which it is left."""
    try:
        with httpx.stream("GET", url, timeout=None) as reply:
            for _ in reply.iter_text():
                pass
    finally:
        # Where an app would save the text so far.
        keep(end)


def keep(end: str) -> None:
    """Keep this moment."""
    moment = time.monotonic()
    with redis.Redis.from_url(os.environ[REDIS]) as client:
        client.rpush(end, moment)


def kept(client: redis.Redis, end: str, deadline: float) -> float:
    """Wait for a moment that was kept, and give it, or infinity."""
    timeout = max(0.01, deadline - time.monotonic())
    found = client.blpop([end], timeout)
    moment = math.inf if found is None else float(found[1])
    return moment if moment <= deadline else math.inf


@contextmanager
def worker(url: str, *command: str) -> Iterator[None]:
    """Run a worker for the length of a with block."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), REDIS: url},
            stdout=log,
            stderr=log,
            # Its own processes are to end with it, however it ends.
            start_new_session=True,
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

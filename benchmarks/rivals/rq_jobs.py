"""Jobs of RQ that read a model, stopped with its own command."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from rq import Callback, Queue
from rq.command import send_stop_job_command
from rq.job import Job, JobStatus

from benchmarks.rivals.job_queues import keep, kept, read, worker
from benchmarks.support.provider import PACE, Provider
from benchmarks.support.stops import LIMIT, Effects, wait_at_random
from flask_chatstop.testing import wait_until

_QUEUE = "stop_latency"


def told(job: Job, _: redis.Redis) -> None:
    """Keep the moment in which RQ tells of a stopped job."""
    keep(str(job.meta["told"]))


class RQ:
    """Stops jobs."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)
        self._queue = Queue(_QUEUE, connection=self._client)
        #: What was left of the jobs that were stopped.
        self.left: set[str] = set()

    def stop(self, provider: Provider, model: str) -> Effects:
        """Stop a job after its first piece, at a random moment."""
        call, end, told_of = provider.call(model), uuid.uuid4().hex, uuid.uuid4().hex
        job = self._queue.enqueue(
            read, call.url, end, meta={"told": told_of}, on_stopped=Callback(told)
        )
        call.wait_until_begun()
        wait_at_random(PACE)
        sent = time.monotonic()
        send_stop_job_command(self._client, job.id)
        closed = call.closed_by(sent + LIMIT) - sent
        ended = kept(self._client, told_of, sent + LIMIT)
        wait_until(lambda: job.get_status() is not JobStatus.STARTED)
        text = "kept" if self._client.exists(end) else "lost"
        self.left.add(f"state `{job.get_status().value}`, text {text}")
        return Effects(ended - sent, closed)


@contextmanager
def rq_worker(url: str) -> Iterator[RQ]:
    """Run a worker for the length of a with block."""
    with worker(url, "rq.cli", "worker", "--url", url, _QUEUE):
        yield RQ(url)

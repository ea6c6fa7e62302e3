"""Actors of dramatiq that read a model, aborted with dramatiq-abort."""

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq_abort import Abortable, abort
from dramatiq_abort.backends import RedisBackend

from benchmarks.rivals.job_queues import REDIS, kept, read, worker
from benchmarks.support.provider import PACE, Provider
from benchmarks.support.stops import LIMIT, Effects, wait_at_random

#: Seconds for which dramatiq-abort listens for the messages that it knew before.
_WATCH = 1.0
#: Actors that run at a time.
_THREADS = 10


def set_up() -> None:
    """Set up dramatiq in its worker."""
    _actor(os.environ[REDIS])


def _actor(url: str) -> "dramatiq.Actor[[str, str], None]":
    broker = RedisBroker(url=url)  # type: ignore[no-untyped-call]
    broker.add_middleware(Abortable(backend=RedisBackend.from_url(url)))
    dramatiq.set_broker(broker)
    return dramatiq.actor(max_retries=0)(read)


class DramatiqAbort:
    """Stops actors."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)
        self._actor = _actor(url)

    def stop(self, provider: Provider, model: str) -> Effects:
        """Abort an actor after its first piece, at a random moment."""
        call, end = provider.call(model), uuid.uuid4().hex
        message = self._actor.send(call.url, end)
        call.wait_until_begun()
        time.sleep(_WATCH)
        wait_at_random(PACE)
        sent = time.monotonic()
        abort(message.message_id)
        closed = call.closed_by(sent + LIMIT) - sent
        left = kept(self._client, end, sent + LIMIT)
        return Effects(left - sent, closed)


@contextmanager
def dramatiq_abort(url: str) -> Iterator[DramatiqAbort]:
    """Run a worker for the length of a with block."""
    options = ["--processes", "1", "--threads", str(_THREADS)]
    options += ["--worker-shutdown-timeout", "1000"]
    with worker(url, "dramatiq", "benchmarks.rivals.dramatiq_jobs:set_up", *options):
        yield DramatiqAbort(url)

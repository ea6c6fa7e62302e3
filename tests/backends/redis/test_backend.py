import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from flask_chatstop import (
    EndReason,
    StopOutcome,
)
from flask_chatstop.backends.redis import RedisBackend
from flask_chatstop.backends.redis.script_calls import key
from flask_chatstop.testing import (
    ALICE,
    BackendContract,
    new_record,
)
from tests.support.servers.redis import RedisServer


class TestRedisBackendOnAUrl(BackendContract):
    @pytest.fixture(autouse=True)
    def shared_redis(self, redis_url: str, redis_prefix: str) -> None:
        self.url, self.prefix = redis_url, redis_prefix

    def open_backend(self, **options: Any) -> RedisBackend:
        return RedisBackend(self.url, prefix=self.prefix, **options)


class TestRedisBackendOnAClient(BackendContract):
    """On a client as redis-py makes it, but for its decoding of replies."""

    @pytest.fixture(autouse=True)
    def shared_redis(self, redis_url: str, redis_prefix: str) -> Iterator[None]:
        self.client = redis.Redis.from_url(redis_url, decode_responses=True)
        self.prefix = f"{redis_prefix}client:"
        yield
        self.client.close()

    def open_backend(self, **options: Any) -> RedisBackend:
        return RedisBackend(self.client, prefix=self.prefix, **options)


def test_its_first_line_says_that_it_serves_many_processes_and_hosts() -> None:
    first_line = (RedisBackend.__doc__ or "").splitlines()[0]
    assert "any number of processes on any number of hosts" in first_line


# what is kept


def test_every_key_is_a_task_and_expires(
    server: RedisServer, redis_backend: RedisBackend
) -> None:
    records = [new_record() for _ in range(3)]
    began = time.monotonic()
    for record in records:
        redis_backend.announce(record)
    redis_backend.stop(records[1].task_id, ALICE)
    redis_backend.end(records[2], EndReason.FINISHED)
    redis_backend.stop("unknown", ALICE)
    redis_backend.check()
    with server.client() as client:
        keys = [f"chatstop:{key(record.task_id)}" for record in records]
        kept = {key for key in client.scan_iter() if client.pttl(key) > 1}
        assert kept == set(keys)
        left = [client.pttl(key) / 1000 for key in keys]
        passed = time.monotonic() - began
        for seconds, most in zip(left, (60, 660, 600), strict=True):
            assert most - passed - 0.1 < seconds <= most


def test_a_task_tells_an_operator_who_runs_it_and_since_when(
    server: RedisServer, redis_backend: RedisBackend
) -> None:
    record = new_record()
    redis_backend.announce(record)
    with server.client() as client:
        task = client.hgetall(f"chatstop:{key(record.task_id)}")
        assert task["worker"] == record.worker_id
        assert task["owner"] == '["app","service-api","alice"]'
        assert task["state"] == "running"
        assert abs(float(task["started_at"]) - client.time()[0]) <= 2
    assert task["started_at"] == task["started_at"].strip()


def test_apps_with_prefixes_of_their_own_share_a_server(server: RedisServer) -> None:
    one, two = (RedisBackend(server.url, prefix=prefix) for prefix in ("1:", "2:"))
    record = new_record()
    assert one.announce(record) is True
    assert two.stop(record.task_id, ALICE) is StopOutcome.MISSING
    assert two.announce(record) is True
    one.close()
    two.close()


# what is sent


def test_a_stop_is_one_message_on_the_channel_of_the_worker(
    server: RedisServer, redis_backend: RedisBackend
) -> None:
    record = new_record()
    redis_backend.announce(record)
    with server.client() as client, client.pubsub() as pubsub:
        pubsub.psubscribe("*")
        assert (pubsub.get_message(timeout=5) or {})["type"] == "psubscribe"
        redis_backend.stop(record.task_id, ALICE)
        message = pubsub.get_message(timeout=5) or {}
        assert message["channel"] == f"chatstop:worker:{record.worker_id}"
        assert message["data"] == record.task_id
        redis_backend.stop(record.task_id, ALICE)
        redis_backend.stop(record.task_id, new_record(owner=ALICE).owner)
        redis_backend.end(record, EndReason.STOPPED)
        redis_backend.stop(record.task_id, ALICE)
        again = [pubsub.get_message(timeout=0.2) for _ in range(3)]
        assert [bool(message) for message in again] == [False] * 3


def test_scripts_that_the_server_has_forgotten_are_loaded_again(
    server: RedisServer, redis_backend: RedisBackend
) -> None:
    records = [new_record(worker_id="worker") for _ in range(3)]
    ids = [record.task_id for record in records]
    for act in (
        lambda: redis_backend.announce(records[0]),
        lambda: redis_backend.renew(records),
        lambda: redis_backend.stop(ids[0], ALICE),
        lambda: redis_backend.end(records[1], EndReason.FINISHED),
        redis_backend.check,
    ):
        server.ask("SCRIPT", "FLUSH")
        act()
    server.ask("SCRIPT", "FLUSH")
    assert redis_backend.stops("worker", ids) == {ids[0]}
    assert redis_backend.stop(ids[1], ALICE) is StopOutcome.ENDED


def test_a_thousand_tasks_cost_as_few_commands_as_a_hundred(
    server: RedisServer, redis_backend: RedisBackend
) -> None:
    sent = []
    for number in (100, 1_000):
        records = [new_record(worker_id="worker") for _ in range(number)]
        ids = [record.task_id for record in records]
        redis_backend.renew(records)
        before = scripts_run(server)
        redis_backend.renew(records)
        assert redis_backend.stops("worker", ids) == set()
        sent.append(scripts_run(server) - before)
        for record in records[:3]:
            redis_backend.stop(record.task_id, ALICE)
        assert redis_backend.stops("worker", ids) == set(ids[:3])
    assert max(sent) <= 2 * 16
    assert server.ask("DBSIZE") == 1_100


def scripts_run(server: RedisServer) -> int:
    with server.client() as client:
        return int(client.info("commandstats")["cmdstat_evalsha"]["calls"])

import subprocess
import sys
import threading

import pytest
import redis

from flask_chatstop import (
    BackendError,
    ConfigurationError,
    EndReason,
    RecordRefused,
    StopOutcome,
    backend_from_url,
)
from flask_chatstop.backends.redis import RedisBackend
from flask_chatstop.backends.redis.script_calls import key
from flask_chatstop.testing import (
    ALICE,
    BOB,
    listening,
    new_record,
    new_worker,
)
from tests.support.servers.redis import RedisServer


@pytest.mark.parametrize(
    "url",
    ["redis://:sec/ret@host", "redis://host?timeout=secret", "redis://h?secret=1",
     "redis://[sec", "rediss://host?ssl_cert_reqs=secret", "redis://u:a@secret@host",
     "redis://:1/secret@host", "redis://:1?secret@host", "redis://:1#secret@host",
     "redis://host/secret"],
)  # fmt: skip
def test_a_url_that_cannot_be_read_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match="is invalid") as caught:
        backend_from_url(url)
    assert "sec" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_anything_but_a_client_that_waits_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="object"):
        RedisBackend(object())  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="not asynchronous"):
        RedisBackend(redis.asyncio.Redis())
    with pytest.raises(ConfigurationError, match="ConnectionPool"):
        RedisBackend(redis.ConnectionPool())  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="prefix is 5"):
        RedisBackend("redis://localhost", prefix=5)  # type: ignore[arg-type]


def test_a_missing_package_is_named() -> None:
    code = """
import sys
sys.modules["redis"] = None
import flask_chatstop
try:
    flask_chatstop.backend_from_url("valkey://localhost")
except flask_chatstop.ConfigurationError as error:
    print(error)
"""
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert 'pip install "flask_chatstop[redis]"' in shown.stdout


def test_a_wrong_password_is_not_shown(server: RedisServer) -> None:
    server.ask("CONFIG", "SET", "requirepass", "right")
    backend = RedisBackend(f"redis://:s3cret@127.0.0.1:{server.port}/0")
    with pytest.raises(BackendError, match="password") as caught:
        backend.check()
    error: BaseException | None = caught.value
    while error is not None:
        assert "s3cret" not in f"{error} {error!r}"
        error = error.__cause__ or error.__context__
    assert "s3cret" not in repr(backend)
    backend.close()


def test_a_server_that_is_away_is_named_with_its_port() -> None:
    backend = RedisBackend("redis://127.0.0.1:1/0")
    with pytest.raises(BackendError, match=r"127\.0\.0\.1:1") as caught:
        backend.check()
    assert isinstance(caught.value.__cause__, redis.ConnectionError)


def test_a_replica_is_told_from_a_primary(
    server: RedisServer, redis_backend: RedisBackend
) -> None:
    server.ask("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(BackendError, match="URL of the primary"):
        redis_backend.check()


def test_a_full_server_is_an_error_that_says_what_to_do(
    server: RedisServer, redis_backend: RedisBackend
) -> None:
    server.ask("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(BackendError, match="maxmemory-policy"):
        redis_backend.check()
    with pytest.raises(BackendError, match="maxmemory-policy"):
        redis_backend.announce(new_record())


@pytest.mark.parametrize(
    "rules",
    ["~chatstop:* &chatstop:* +@all -publish", "~chatstop:* &chatstop:* +@all -evalsha",
     "~chatstop:* resetchannels +@all", "~other:* &chatstop:* +@all"],
)  # fmt: skip
def test_a_missing_permission_is_found_by_the_check(
    server: RedisServer, rules: str
) -> None:
    server.ask("ACL", "SETUSER", "app", "on", ">pw", *rules.split())
    backend = RedisBackend(f"redis://app:pw@127.0.0.1:{server.port}/0")
    with pytest.raises(BackendError, match="Let the ACL user run"):
        backend.check()
    backend.close()


def test_the_permissions_it_asks_for_are_enough(server: RedisServer) -> None:
    rules = (
        "~chatstop:* &chatstop:* +eval +evalsha +subscribe +publish +ping +time +hmget"
        " +hset +pttl +pexpire"
    )
    server.ask("ACL", "SETUSER", "app", "on", ">pw", *rules.split())
    url = f"redis://app:pw@127.0.0.1:{server.port}/0"
    backend = RedisBackend(url, timeout=0.5)
    backend.check()
    record = new_record(worker_id=new_worker())
    backend.announce(record)
    with listening(backend, [record]) as bell:
        threading.Event().wait(1.5)
        backend.stop(record.task_id, ALICE)
        assert bell.get(timeout=5) == record.task_id
    backend.renew([record])
    backend.end(record, EndReason.STOPPED)
    backend.close()


def test_a_full_server_renews_stops_and_ends_what_it_knows(
    server: RedisServer, redis_backend: RedisBackend
) -> None:
    worker_id = new_worker()
    records = [new_record(worker_id=worker_id) for _ in range(5)]
    running, stopping, ending, lost, unknown = records
    for record in (running, stopping, ending):
        redis_backend.announce(record)
    redis_backend.stop(stopping.task_id, ALICE)
    for record in (running, stopping, ending):
        server.ask("PEXPIRE", f"chatstop:{key(record.task_id)}", "30000")
    server.ask("CONFIG", "SET", "maxmemory", "1")
    for record in (running, stopping):
        redis_backend.renew([record])
        left = server.ask("PTTL", f"chatstop:{key(record.task_id)}")
        assert isinstance(left, int) and left > 50_000
    assert redis_backend.stop(running.task_id, ALICE) is StopOutcome.STOPPING
    redis_backend.end(ending, EndReason.FINISHED)
    assert redis_backend.stop(ending.task_id, ALICE) is StopOutcome.ENDED
    with pytest.raises(RecordRefused):
        redis_backend.renew([lost])
    for task_id, owner in ((unknown.task_id, ALICE), (running.task_id, BOB)):
        with pytest.raises(RecordRefused, match="maxmemory"):
            redis_backend.stop(task_id, owner)
    server.ask("CONFIG", "SET", "maxmemory", "0")
    assert redis_backend.stop(unknown.task_id, ALICE) is StopOutcome.MISSING
    assert redis_backend.stop(running.task_id, BOB) is StopOutcome.MISSING
    assert server.ask("DBSIZE") == 3


def test_keys_of_somebody_else_hide_no_task(
    server: RedisServer, redis_backend: RedisBackend
) -> None:
    record = new_record()
    redis_backend.announce(record)
    redis_backend.stop(record.task_id, ALICE)
    foreign = "foreign"
    server.ask("SET", f"chatstop:{key(foreign)}", "text")
    server.ask("LPUSH", "chatstop:queue", "item")
    server.ask("HSET", "chatstop:{1}:hash", "field", "value")
    assert [info.record for info in redis_backend.tasks()] == [record]
    asked = [foreign, record.task_id]
    assert redis_backend.stops(record.worker_id, asked) == {record.task_id}
    assert redis_backend.stop("hash", ALICE) is StopOutcome.MISSING
    assert server.ask("DBSIZE") == 4

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.sentinel import Sentinel

from flask_chatstop.backends.redis import RedisBackend
from flask_chatstop.testing import wait_until
from tests.support.servers.redis import RedisServer
from tests.support.worker_app import WorkerApp


@pytest.fixture
def sentinel(server: RedisServer, tmp_path: Path) -> Iterator[RedisServer]:
    """Start a Sentinel over a primary and its replica."""
    server.ask("CONFIG", "SET", "repl-diskless-sync-delay", "0")
    replica = RedisServer(tmp_path, "--replicaof", f"127.0.0.1 {server.port}")
    # Before the Sentinel looks, which it does every ten seconds.
    wait_until(lambda: is_linked(replica))
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"sentinel monitor chat 127.0.0.1 {server.port} 1\n"
        "sentinel down-after-milliseconds chat 500\n"
        "sentinel failover-timeout chat 5000\n"
    )
    sentinel = RedisServer(tmp_path, sentinel=config)
    wait_until(lambda: replicas(sentinel) == ["ok"])
    yield sentinel
    sentinel.kill()
    replica.kill()


def is_linked(replica: RedisServer) -> bool:
    with replica.client() as client:
        found: str = client.info("replication")["master_link_status"]
    return found == "up"


def replicas(sentinel: RedisServer) -> list[str]:
    with sentinel.client() as client:
        known = client.sentinel_slaves("chat")
    return [replica["master-link-status"] for replica in known]


def test_a_failover_is_followed(server: RedisServer, sentinel: RedisServer) -> None:
    addresses = [("127.0.0.1", sentinel.port)]
    sentinels = Sentinel(addresses, socket_timeout=1.5)  # type: ignore[no-untyped-call]
    client = sentinels.master_for("chat")  # type: ignore[no-untyped-call]
    mine, other = (
        WorkerApp(RedisBackend(client, timeout=1.5), sweep_interval=60.0)
        for _ in range(2)
    )
    before = mine.chat()
    assert other.can_stop(mine.chat())
    server.kill()
    meanwhile = mine.chat()
    assert before.goes_on()
    for chat in (before, meanwhile):
        wait_until(lambda chat=chat: other.can_stop(chat), 30)  # type: ignore[misc]
    for worker_app in (mine, other):
        worker_app.close()

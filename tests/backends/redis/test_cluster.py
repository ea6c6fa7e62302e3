import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from flask_chatstop import ConfigurationError, EndReason, StopOutcome
from flask_chatstop.backends.redis import RedisBackend
from flask_chatstop.testing import (
    ALICE,
    BackendContract,
    listening,
    new_record,
    wait_until,
)
from tests.support.servers.redis import HAS_SERVER, RedisServer
from tests.support.worker_app import Chat, WorkerApp

Nodes = list[RedisServer]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Start a cluster of three primaries."""
    if not HAS_SERVER or shutil.which("redis-cli") is None:
        pytest.skip("there is no redis-server or redis-cli to start a cluster with")
    nodes = [cluster_node(tmp_path_factory.mktemp("node")) for _ in range(3)]
    addresses = [f"127.0.0.1:{node.port}" for node in nodes]
    command = ["redis-cli", "--cluster", "create", *addresses, "--cluster-yes"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    for node in nodes:
        wait_until(lambda node=node: knows_all(node), 20)  # type: ignore[misc]
    yield nodes
    for node in nodes:
        node.kill()


def cluster_node(directory: Path) -> RedisServer:
    options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"]
    options += ["--cluster-require-full-coverage", "no"]
    return RedisServer(directory, *options)


def knows_all(node: RedisServer) -> bool:
    with node.client() as client:
        info = client.execute_command("CLUSTER INFO")
    return bool(info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "3")


@pytest.fixture
def client(nodes: Nodes) -> Iterator[redis.RedisCluster]:
    client = redis.RedisCluster(
        host="127.0.0.1", port=nodes[0].port, socket_timeout=2, socket_connect_timeout=2
    )
    yield client
    client.close()


def test_a_prefix_that_would_scatter_the_keys_of_one_tag_is_refused(
    client: redis.RedisCluster,
) -> None:
    with pytest.raises(ConfigurationError, match="prefix is"):
        RedisBackend(client, prefix="app{}:")
    for prefix in ("app{1}:", "app{:", "}{app:"):
        backend, record = RedisBackend(client, prefix=prefix), new_record()
        backend.renew([record])
        assert backend.stop(record.task_id, ALICE) is StopOutcome.STOPPING
        assert backend.stops(record.worker_id, [record.task_id])


class TestRedisBackendOnACluster(BackendContract):
    @pytest.fixture(autouse=True)
    def cluster(self, client: redis.RedisCluster) -> None:
        self.client = client

    def open_backend(self, **options: Any) -> RedisBackend:
        return RedisBackend(self.client, **options)


def test_tasks_of_one_worker_on_every_node_are_kept_together(
    nodes: Nodes, client: redis.RedisCluster
) -> None:
    backend = RedisBackend(client)
    records = [new_record(worker_id="worker") for _ in range(100)]
    ids = [record.task_id for record in records]
    for node in nodes:
        node.ask("FLUSHALL")
        node.ask("SCRIPT", "FLUSH")
    backend.renew(records)
    counts = [int(str(node.ask("DBSIZE"))) for node in nodes]
    assert sum(counts) == 100
    assert 0 not in counts
    for task_id in ids[:50]:
        assert backend.stop(task_id, ALICE) is StopOutcome.STOPPING
    assert backend.stops("worker", ids) == set(ids[:50])
    for record in records:
        backend.end(record, EndReason.STOPPED)
    assert backend.stops("worker", ids) == set()
    backend.check()


def test_a_ring_reaches_its_worker_from_every_node(
    nodes: Nodes, client: redis.RedisCluster
) -> None:
    backend = RedisBackend(client, prefix="ring:")
    records = [new_record(worker_id="worker") for _ in range(30)]
    backend.renew(records)
    for node in nodes:
        with node.client() as one:
            assert list(one.scan_iter("ring:*"))
    with listening(backend, records[:1]) as bell:
        for record in records:
            backend.stop(record.task_id, ALICE)
            assert bell.get(timeout=5) == record.task_id


def test_ids_in_braces_stay_apart(client: redis.RedisCluster) -> None:
    backend = RedisBackend(client)
    one, two = (new_record(task_id=name) for name in ("{a}1", "{a}2"))
    assert backend.announce(one) is True
    assert backend.announce(two) is True
    backend.stop("{a}1", ALICE)
    assert backend.stops(one.worker_id, ["{a}1"]) == {"{a}1"}
    assert backend.stops(two.worker_id, ["{a}2"]) == set()


def test_a_listener_moves_away_from_a_dead_node(
    nodes: Nodes, client: redis.RedisCluster
) -> None:
    backend = RedisBackend(client, prefix="{one slot}:", timeout=1.5)
    for _ in range(30):
        mine = WorkerApp(backend, sweep_interval=60.0)
        chat = mine.chat()
        wait_until(lambda: any(map(is_listened_to, nodes)))
        (node,) = filter(is_listened_to, nodes)
        if not keeps(node, chat):
            break
        mine.close()
        wait_until(lambda: not any(map(is_listened_to, nodes)))
    else:
        pytest.fail("the listener never took another node than the tasks'")
    node.kill()
    alive = [other for other in nodes if other is not node]
    wait_until(lambda: any(map(is_listened_to, alive)), 20)
    assert WorkerApp(backend).can_stop(chat)
    mine.close()
    node.start()


def is_listened_to(node: RedisServer) -> bool:
    with node.client() as client:
        return bool(client.client_list(_type="pubsub"))


def keeps(node: RedisServer, chat: Chat) -> bool:
    with node.client() as client:
        return bool(client.keys(f"*{chat.task_id}"))

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from flask_chatstop.testing import wait_until
from tests.support.servers.redis import BY_SCRIPTS, RedisServer
from tests.support.worker_app import WorkerApp

Opener = Callable[..., WorkerApp]
#: Seconds that a call may take. A busy machine takes less than one more for it.
TIMEOUT = 1.5


@pytest.fixture
def open_worker_app(server: RedisServer) -> Iterator[Opener]:
    worker_apps: list[WorkerApp] = []

    def open_worker_app(**config: object) -> WorkerApp:
        config = {"sweep_interval": 0.5, "operation_timeout": TIMEOUT} | config
        worker_apps.append(WorkerApp(server.url, **config))
        return worker_apps[-1]

    yield open_worker_app
    for worker_app in worker_apps:
        worker_app.close()


def listeners(server: RedisServer) -> list[str]:
    with server.client() as client:
        return [c["id"] for c in client.client_list(_type="pubsub")]


def test_a_stop_through_another_worker_ends_the_stream(open_worker_app: Opener) -> None:
    mine, other = open_worker_app(sweep_interval=60.0), open_worker_app()
    chat, bystander = mine.chat(), mine.chat()
    response = other.stop(chat)
    assert response.headers["Chatstop-Outcome"] == "stopping"
    assert chat.ended.wait(10)
    assert '"end_reason":"stopped"' in chat.events[-1]
    assert bystander.goes_on()


def test_a_server_that_comes_back_empty_learns_the_tasks_of_before_and_meanwhile(
    server: RedisServer, open_worker_app: Opener
) -> None:
    mine, other = open_worker_app(), open_worker_app()
    before = mine.chat()
    server.kill()
    began = time.monotonic()
    response = other.stop(before)
    assert response.status_code == 503
    assert response.headers["Retry-After"]
    assert time.monotonic() - began < TIMEOUT
    meanwhile, local = mine.chat(), mine.chat()
    assert mine.stop(local).headers["Chatstop-Outcome"] == "stopping"
    assert local.ended.wait(10)
    assert before.goes_on()
    assert meanwhile.goes_on()
    server.start()
    # By the sweep: a try of the store's alone may be seconds away.
    wait_until(lambda: other.stop(before).status_code == 200)
    assert before.ended.wait(10)
    assert other.can_stop(meanwhile)


def test_after_a_longer_outage_the_doorbell_is_heard_again(
    server: RedisServer, open_worker_app: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    mine, other = open_worker_app(sweep_interval=60.0), open_worker_app()
    chat = mine.chat()
    wait_until(lambda: len(listeners(server)) == 1)
    server.kill()
    threading.Event().wait(4)
    server.start()
    wait_until(lambda: len(listeners(server)) == 1, 10)
    wait_until(lambda: other.stop(chat).status_code == 200)
    assert chat.ended.wait(10)
    for name in ("the doorbell of stops", "the store of running tasks"):
        # Another thread than that of the listener may have yet to say so.
        wait_until(lambda name=name: f"Found {name}" in caplog.text)  # type: ignore[misc]
        for what in ("Lost", "Found"):
            assert caplog.text.count(f"{what} {name}") == 1


def test_a_stop_between_the_death_of_the_listener_and_its_return_is_heard(
    server: RedisServer, open_worker_app: Opener
) -> None:
    mine, other = open_worker_app(sweep_interval=60.0), open_worker_app()
    # One more than are stopped: without a task nobody listens.
    *chats, _still_running = [mine.chat() for _ in range(6)]
    for chat in chats:
        wait_until(lambda: len(listeners(server)) == 1)
        (before,) = listeners(server)
        server.ask("CLIENT", "KILL", "TYPE", "pubsub")
        assert other.stop(chat).status_code == 200
        assert chat.ended.wait(10)
        wait_until(lambda before=before: listeners(server) not in ([], [before]))  # type: ignore[misc]


def test_a_frozen_server_costs_a_stop_the_timeout_and_a_stream_nothing(
    server: RedisServer, open_worker_app: Opener
) -> None:
    mine, other = open_worker_app(), open_worker_app()
    chat = mine.chat()
    server.freeze()
    began = time.monotonic()
    assert other.stop(chat).status_code == 503
    assert time.monotonic() - began < 2 * TIMEOUT
    assert chat.goes_on()
    began = time.monotonic()
    first = mine.chat()
    assert time.monotonic() - began < 2 * TIMEOUT
    chats = []
    for _ in range(5):
        began = time.monotonic()
        chats.append(mine.chat())
        assert time.monotonic() - began < TIMEOUT
    assert chat.goes_on()
    server.thaw()
    for left in (chat, first, *chats):
        wait_until(lambda left=left: other.can_stop(left), 10)  # type: ignore[misc]


def test_a_task_costs_three_commands_and_its_chunks_none(
    server: RedisServer, open_worker_app: Opener
) -> None:
    # Neither a sweep nor a renewal is due while the test counts.
    mine = open_worker_app(sweep_interval=100.0, lease=300.0)
    other = open_worker_app()
    held = mine.chat()
    wait_until(lambda: bool(listeners(server)))
    other.stop(mine.chat())
    # Then the server knows every script: the last one is that of the end.
    wait_until(lambda: sorted(states(server)) == ["running", "stopped"])
    before = sent(server)
    for _ in range(10):
        finished = mine.chat(words=20)
        stopped = mine.chat()
        assert finished.goes_on() or finished.ended.wait(10)
        assert other.stop(stopped).status_code == 200
        for chat in (finished, stopped):
            assert chat.ended.wait(10)
    wait_until(lambda: states(server).count("running") == 1)
    wait_until(lambda: "stopping" not in states(server))
    after = sent(server)
    assert {
        name: after[name] - before.get(name, 0)
        for name in after
        if after[name] != before.get(name, 0)
    } == {"evalsha": 10 * 2 + 10 * 3}
    assert held.goes_on()


def sent(server: RedisServer) -> dict[str, int]:
    """Count the commands that clients have sent, without those of scripts and ours."""
    with server.client() as client:
        stats = client.info("commandstats")
    by_the_test = {"info", "client|list", "client|setinfo", "scan", "ping", "hget"}
    names = {name.removeprefix("cmdstat_") for name in stats}
    names -= BY_SCRIPTS | by_the_test
    return {name: stats[f"cmdstat_{name}"]["calls"] for name in names}


def states(server: RedisServer) -> list[str]:
    with server.client() as client:
        keys = list(client.scan_iter("chatstop:*"))
        return [str(client.hget(key, "state")) for key in keys]


def test_on_a_full_server_what_runs_stays_known_and_what_is_new_is_not_missing(
    server: RedisServer, open_worker_app: Opener
) -> None:
    mine, other = open_worker_app(lease=2.0), open_worker_app(lease=2.0)
    before = mine.chat()
    server.ask("CONFIG", "SET", "maxmemory", "1")
    meanwhile = mine.chat()
    assert other.stop(meanwhile).status_code == 503
    renewals = sent(server)["evalsha"]
    # It is swept twice a second, and renewed thrice in a lease: for two leases.
    wait_until(lambda: sent(server)["evalsha"] > renewals + 14)
    assert other.can_stop(before)
    server.ask("CONFIG", "SET", "maxmemory", "0")
    wait_until(lambda: other.stop(meanwhile).status_code == 200)
    assert meanwhile.ended.wait(10)

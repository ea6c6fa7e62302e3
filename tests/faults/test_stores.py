"""A store that freezes, comes back empty, is cut off, or whose listener has died."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import make_url

from flask_chatstop.testing import wait_until
from tests.faults.deployment import Chat, Deployment, deployment
from tests.faults.stores import RedisStore, Store
from tests.support.resetting_proxy import ResettingProxy
from tests.support.servers.network import Network, network


@pytest.fixture
def deployed(store: Store, tmp_path: Path) -> Iterator[Deployment]:
    with deployment(tmp_path / "deployment", store.url) as deployed:
        yield deployed


@contextmanager
def store_behind(other_host: Network, store: Store) -> Iterator[str]:
    """Give the URL of a store on another host."""
    listener = other_host.socket()
    listener.bind((other_host.address, 0))
    listener.listen()
    where = {"host": other_host.address, "port": listener.getsockname()[1]}
    with ResettingProxy(store.port, listener):
        yield make_url(store.url).set(**where).render_as_string()


def assert_stops_are_refused_or_local(deployment: Deployment, chat: Chat) -> None:
    """Assert what holds while nobody can reach the store."""
    assert chat.goes_on()
    response = chat.stop_elsewhere()
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert chat.goes_on()
    meanwhile = deployment.ask("talk")
    assert meanwhile.stop_here().headers["Chatstop-Outcome"] == "stopping"
    assert meanwhile.is_stopped()


def test_never_does_a_look_at_the_store_between_chunks_stall_the_answer(
    deployed: Deployment, store: Store
) -> None:
    """A look at the store between chunks stalls the answer when the store is slow."""
    chat, begun = deployed.ask("talk"), deployed.ask("talk")
    store.freeze()
    assert_stops_are_refused_or_local(deployed, chat)
    # One that began before the store froze is stopped by its own worker as well.
    assert begun.stop_here().headers["Chatstop-Outcome"] == "stopping"
    assert begun.is_stopped()
    store.thaw()
    wait_until(chat.can_be_stopped_elsewhere)
    assert chat.is_stopped()


def test_a_store_that_was_restarted_empty_knows_every_running_task_again(
    deployed: Deployment, store: Store
) -> None:
    chats = [deployed.ask(then) for then in ("talk", "silence")]
    store.restart_empty()
    for chat in chats:
        wait_until(chat.can_be_stopped_elsewhere)
        assert chat.is_stopped()


def test_a_store_behind_a_cut_network_stalls_no_answer_and_is_found_again(
    store: Store, tmp_path: Path
) -> None:
    with (
        network() as other_host,
        store_behind(other_host, store) as url,
        deployment(tmp_path / "deployment", url) as deployed,
    ):
        chat = deployed.ask("talk")
        assert deployed.ask().stop_elsewhere().status_code == 200
        other_host.cut()
        assert_stops_are_refused_or_local(deployed, chat)
        other_host.mend()
        wait_until(chat.can_be_stopped_elsewhere, 20)
        assert chat.is_stopped()


def test_a_stop_is_kept_for_a_worker_that_is_cut_off_for_longer_than_its_lease(
    store: Store, tmp_path: Path
) -> None:
    with network() as other_host, ExitStack() as stack:
        url = stack.enter_context(store_behind(other_host, store))
        cut_off = stack.enter_context(deployment(tmp_path / "cut_off", url))
        other = stack.enter_context(deployment(tmp_path / "other", store.url))
        chat = cut_off.ask("talk")
        other_host.cut()
        stopped = other.server.stop(chat.task_id)
        assert stopped.headers["Chatstop-Outcome"] == "stopping"
        wait_until(lambda: other.server.stop(chat.task_id).status_code == 404)
        assert chat.goes_on()
        other_host.mend()
        assert chat.is_stopped()


def test_never_has_the_redis_listener_died_and_nobody_knows(
    redis_store: RedisStore, tmp_path: Path
) -> None:
    """The Redis listener has died and nobody knows."""
    with deployment(tmp_path / "deployment", redis_store.url) as deployed:
        chats = [deployed.ask("talk") for _ in range(2)]
        redis_store.ask("ACL", "SETUSER", "default", "-subscribe")
        redis_store.ask("CLIENT", "KILL", "TYPE", "pubsub")
        wait_until(lambda: "Lost the doorbell of stops" in deployed.log())
        # The sweep finds it, and the log tells why it took so long.
        assert chats[0].stop_elsewhere().status_code == 200
        assert chats[0].is_stopped()
        redis_store.ask("ACL", "SETUSER", "default", "+subscribe")
        wait_until(lambda: "Found the doorbell of stops again" in deployed.log())
        assert chats[1].stop_elsewhere().status_code == 200
        assert chats[1].is_stopped()

"""A store that freezes, comes back empty, is cut off, or whose doorbell has died."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import make_url

from flask_chatstop.testing import wait_until
from tests.faults.site import Chat, Site, site
from tests.faults.stores import RedisStore, Store
from tests.network import Network, network
from tests.resetting_proxy import ResettingProxy


@pytest.fixture
def chat_site(store: Store, tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path / "site", store.url) as chat_site:
        yield chat_site


@contextmanager
def store_behind(other_host: Network, store: Store) -> Iterator[str]:
    """Give the URL of a store on another host."""
    listener = other_host.socket()
    listener.bind((other_host.address, 0))
    listener.listen()
    where = {"host": other_host.address, "port": listener.getsockname()[1]}
    with ResettingProxy(store.port, listener):
        yield make_url(store.url).set(**where).render_as_string()


def assert_stops_are_refused_or_local(site: Site, chat: Chat) -> None:
    """Assert what holds while nobody can reach the store."""
    assert chat.goes_on()
    response = chat.stop_elsewhere()
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert chat.goes_on()
    meanwhile = site.ask("talk")
    assert meanwhile.stop_here().headers["Chatstop-Outcome"] == "stopping"
    assert meanwhile.is_stopped()


def test_never_does_a_look_at_the_store_between_chunks_stall_the_answer(
    chat_site: Site, store: Store
) -> None:
    """A look at the store between chunks stalls the answer when the store is slow."""
    chat, begun = chat_site.ask("talk"), chat_site.ask("talk")
    store.freeze()
    assert_stops_are_refused_or_local(chat_site, chat)
    # One that began before the store froze is stopped by its own worker as well.
    assert begun.stop_here().headers["Chatstop-Outcome"] == "stopping"
    assert begun.is_stopped()
    store.thaw()
    wait_until(chat.can_be_stopped_elsewhere)
    assert chat.is_stopped()


def test_a_store_that_was_restarted_empty_knows_every_running_task_again(
    chat_site: Site, store: Store
) -> None:
    chats = [chat_site.ask(then) for then in ("talk", "silence")]
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
        site(tmp_path / "site", url) as chat_site,
    ):
        chat = chat_site.ask("talk")
        assert chat_site.ask().stop_elsewhere().status_code == 200
        other_host.cut()
        assert_stops_are_refused_or_local(chat_site, chat)
        other_host.mend()
        wait_until(chat.can_be_stopped_elsewhere, 20)
        assert chat.is_stopped()


def test_a_stop_is_kept_for_a_worker_that_is_cut_off_for_longer_than_its_lease(
    store: Store, tmp_path: Path
) -> None:
    with network() as other_host, ExitStack() as stack:
        url = stack.enter_context(store_behind(other_host, store))
        cut_off = stack.enter_context(site(tmp_path / "cut_off", url))
        other = stack.enter_context(site(tmp_path / "other", store.url))
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
    with site(tmp_path / "site", redis_store.url) as chat_site:
        chats = [chat_site.ask("talk") for _ in range(2)]
        redis_store.ask("ACL", "SETUSER", "default", "-subscribe")
        redis_store.ask("CLIENT", "KILL", "TYPE", "pubsub")
        wait_until(lambda: "Lost the doorbell of stops" in chat_site.log())
        # The sweep finds it, and the log tells why it took so long.
        assert chats[0].stop_elsewhere().status_code == 200
        assert chats[0].is_stopped()
        redis_store.ask("ACL", "SETUSER", "default", "+subscribe")
        wait_until(lambda: "Found the doorbell of stops again" in chat_site.log())
        assert chats[1].stop_elsewhere().status_code == 200
        assert chats[1].is_stopped()

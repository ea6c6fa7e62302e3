"""Clients that come back to an answer, while workers and stores are lost."""

import json
import os
import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from flask_chatstop.events.database import DatabaseEventLog
from flask_chatstop.testing import wait_until
from tests.faults.deployment import Chat, Deployment, deployment
from tests.faults.stores import RedisStore, Store
from tests.support.provider import TOKENS
from tests.support.servers.gunicorn import AUTH
from tests.support.servers.postgresql import PostgreSQLServer


class Follower:
    """A client that follows an answer in a thread of its own, event by event."""

    def __init__(
        self,
        deployment: Deployment,
        task_id: str,
        *,
        after: str | None = None,
        **choice: str,
    ) -> None:
        self.events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.last_id: str | None = None
        self.over = threading.Event()
        self.is_cut = False
        self._url = (
            f"{deployment.server.url}/v1/chat-messages/{task_id}/events?user=alice"
        )
        self._headers = {**AUTH, **choice}
        if after is not None:
            self._headers["Last-Event-ID"] = after
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            with httpx.Client(timeout=30, verify=False) as client:
                while not self._followed(client):
                    pass
        except httpx.HTTPError:
            self.is_cut = True
        finally:
            self.over.set()

    def _followed(self, client: httpx.Client) -> bool:
        headers = {**self._headers, "Connection": "close"}
        with client.stream("GET", self._url, headers=headers) as response:
            if response.status_code == httpx.codes.MISDIRECTED_REQUEST:
                return False
            assert response.status_code == 200, response.read()
            event_id = None
            for line in response.iter_lines():
                if line.startswith("id: "):
                    event_id = line.removeprefix("id: ")
                elif line.startswith("data: "):
                    self.last_id = event_id or self.last_id
                    self.events.put(json.loads(line.removeprefix("data: ")))
        return True

    def until(self, answer: str) -> list[dict[str, Any]]:
        """Wait for a piece of the answer, and return what was sent until then."""
        events = [self.events.get(timeout=20)]
        while events[-1].get("answer") != answer:
            events.append(self.events.get(timeout=20))
        return events

    def rest(self) -> list[dict[str, Any]]:
        """Wait for the end, and return the events up to it."""
        assert self.over.wait(30), "the answer did not end"
        return [self.events.get() for _ in range(self.events.qsize())]


@contextmanager
def followed(directory: Path, url: str, *options: str) -> Iterator[Deployment]:
    """Run the app with all stores on one server."""
    events = url.replace("chatstop.db", "events.db")
    if not url.startswith("redis"):
        log = DatabaseEventLog(events)
        log.create_table()
        log.close()
    with deployment(directory, url, *options, FLASK_CHATSTOP_EVENTS=events) as deployed:
        wait_until(lambda: len(deployed.server.workers()) == 2)
        yield deployed


@pytest.fixture(params=["mariadb_url", "redis_url"])
def two_workers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    url = request.getfixturevalue(request.param)
    with followed(tmp_path / "deployment", url) as deployed:
        yield deployed


def answers(events: list[dict[str, Any]]) -> str:
    return "".join(event.get("answer", "") for event in events)


def test_a_killed_source_ends_as_failed_for_its_followers_when_the_lease_is_over(
    two_workers: Deployment,
) -> None:
    chat = two_workers.ask("silence")
    victim = chat.pid
    followers = [
        Follower(two_workers, chat.task_id, **{"Not-By": victim}) for _ in range(2)
    ]
    for follower in followers:
        assert answers(follower.until(TOKENS[-1])) == "".join(TOKENS)
    os.kill(int(victim), signal.SIGKILL)
    for follower in followers:
        [end] = follower.rest()
        assert (end["event"], end["metadata"]) == ("error", {"saved": False})
        assert follower.last_id == "end"
    # Not before: nobody knows the task any more.
    assert chat.stop().status_code == 404
    late = Follower(two_workers, chat.task_id).rest()
    assert answers(late) == "".join(TOKENS) and late[-1]["event"] == "error"


def test_a_follower_whose_worker_is_killed_goes_on_through_another_one(
    two_workers: Deployment,
) -> None:
    chat = two_workers.ask("talk")
    [victim] = {*two_workers.server.workers()} - {chat.pid}
    follower = Follower(two_workers, chat.task_id, By=victim)
    before = follower.until(TOKENS[-1])
    os.kill(int(victim), signal.SIGKILL)
    before += follower.rest()
    assert follower.is_cut
    again = Follower(two_workers, chat.task_id, after=follower.last_id)
    assert chat.goes_on()
    assert chat.stop_here().headers["Chatstop-Outcome"] == "stopping"
    everything = before + again.rest()
    assert everything[-1]["metadata"]["end_reason"] == "stopped"
    [(_, text)] = chat.ends()
    assert answers(everything).startswith(text)
    assert answers(everything) == answers(Follower(two_workers, chat.task_id).rest())


def follow_over_a_restart(deployed: Deployment, chat: Chat, store: Store) -> list[Any]:
    """Follow an answer while its stores are restarted, and return what came then."""
    follower = Follower(deployed, chat.task_id, **{"Not-By": chat.pid})
    follower.until(TOKENS[-1])
    store.restart_empty()
    assert chat.goes_on()
    wait_until(chat.can_be_stopped_elsewhere)
    assert chat.is_stopped()
    events = follower.rest()
    assert events[-1]["metadata"]["end_reason"] == "stopped"
    return events


def test_a_store_that_comes_back_empty_costs_a_late_follower_a_part_and_not_the_end(
    redis_store: RedisStore, tmp_path: Path
) -> None:
    with followed(tmp_path / "deployment", redis_store.url) as deployed:
        chat = deployed.ask("talk")
        events = follow_over_a_restart(deployed, chat, redis_store)
        # What it has not read of the store's last moment.
        assert [x["event"] for x in events].count("lost") <= 1
        late = Follower(deployed, chat.task_id).rest()
        assert late[0]["event"] == "lost"
        assert late[-1] == events[-1]


def test_a_store_that_keeps_its_data_costs_a_follower_nothing(
    own_postgresql: PostgreSQLServer, tmp_path: Path
) -> None:
    with followed(tmp_path / "deployment", own_postgresql.url) as deployed:
        chat = deployed.ask("talk")
        follower = Follower(deployed, chat.task_id, **{"Not-By": chat.pid})
        begun = follower.until(TOKENS[-1])
        own_postgresql.stop()
        assert chat.goes_on()
        own_postgresql.start()
        wait_until(chat.can_be_stopped_elsewhere)
        assert chat.is_stopped()
        [(_, text)] = chat.ends()
        everything = begun + follower.rest()
        assert answers(everything).startswith(text)
        assert "lost" not in {event["event"] for event in everything}
        assert everything[-1]["metadata"]["end_reason"] == "stopped"

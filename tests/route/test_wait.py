"""The stop that waits for its task's end: ``?wait=2``."""

import threading
from functools import partial
from typing import Any

import pytest

from flask_chatstop import MemoryBackend, Owner, StopOutcome, TaskInfo
from flask_chatstop.testing import wait_until
from flask_chatstop.worker.waiting import MAX_WAITING
from tests.support.apps import new_task
from tests.support.chat import AUTH, Chat
from tests.support.route import error


def wait_for(chat: Chat, task_id: str, wait: object) -> Any:
    return chat.client.post(
        f"/v1/chat-messages/{task_id}/stop?wait={wait}",
        json={"user": "alice"},
        headers=AUTH,
    )


def test_a_stop_that_waits_tells_of_the_end() -> None:
    chat = Chat()
    task = new_task(chat)

    @task.on_stop
    def end() -> None:
        task.end("stopped")

    response = wait_for(chat, task.id, 10)
    assert response.headers["Chatstop-Outcome"] == "stopped"


def test_a_stop_that_waits_in_vain_tells_that_it_is_stopping() -> None:
    chat = Chat()
    task = new_task(chat)
    response = wait_for(chat, task.id, 0.1)
    assert response.headers["Chatstop-Outcome"] == "stopping"
    assert task.stopped


# Another worker hears of the end if the task's worker tells the store of it again
# before the wait finds the task missing.
@pytest.mark.parametrize(
    ("elsewhere", "outcomes"), [(0, {"stopped"}), (1, {"stopping", "stopped"})]
)
def test_a_stop_that_waits_finds_no_missing_task_when_the_store_has_lost_it(
    elsewhere: int, outcomes: set[str]
) -> None:
    backend = MemoryBackend()
    chats = [Chat(config={"CHATSTOP_BACKEND": backend}) for _ in range(2)]
    task = new_task(chats[0])
    task.on_stop(backend.after_fork)  # it forgets everything
    task.on_stop(partial(task.end, "stopped"))
    url = f"/v1/chat-messages/{task.id}/stop?wait=10"
    client = chats[elsewhere].client
    response = client.post(url, json={"user": "alice"}, headers=AUTH)
    assert response.status_code == 200
    assert response.headers["Chatstop-Outcome"] in outcomes


def test_a_missing_task_is_not_waited_for() -> None:
    chat = Chat()
    assert error(wait_for(chat, "unknown", 10)) == (404, "task_not_found")


class Recording(MemoryBackend):
    """A store that records who asks it for what."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.readers: list[threading.Thread] = []

    def stop(self, task_id: str, owner: Owner) -> StopOutcome:
        self.asked += 1
        return super().stop(task_id, owner)

    def tasks(self, **wanted: Any) -> list[TaskInfo]:
        self.readers.append(threading.current_thread())
        return super().tasks(**wanted)


@pytest.fixture
def store() -> Recording:
    return Recording()


@pytest.fixture
def here(store: Recording) -> Chat:
    return Chat(config={"CHATSTOP_BACKEND": store})


@pytest.fixture
def elsewhere(store: Recording) -> Chat:
    return Chat(config={"CHATSTOP_BACKEND": store})


def test_a_stop_that_waits_elsewhere_reads_the_store_20_times_a_second_at_most(
    store: Recording, here: Chat, elsewhere: Chat
) -> None:
    task = new_task(here)
    response = wait_for(elsewhere, task.id, 2)
    assert response.headers["Chatstop-Outcome"] == "stopping"
    assert 2 <= len(store.readers) <= 41
    assert store.asked == 1  # which writes


def test_a_stop_that_waits_elsewhere_tells_how_the_task_has_ended(
    store: Recording, here: Chat, elsewhere: Chat
) -> None:
    task = new_task(here)
    task.on_stop(partial(task.end, "stopped"))
    response = wait_for(elsewhere, task.id, 10)
    assert response.headers["Chatstop-Outcome"] == "stopped"
    assert store.asked == 2


def test_a_stop_that_waits_where_the_task_runs_asks_the_store_no_more(
    store: Recording, here: Chat
) -> None:
    task = new_task(here)
    response = wait_for(here, task.id, 0.3)
    assert response.headers["Chatstop-Outcome"] == "stopping"
    assert (store.asked, store.readers) == (1, [])


def test_few_stops_wait_at_once_and_the_others_are_answered_at_once(
    store: Recording, here: Chat, elsewhere: Chat
) -> None:
    task = new_task(here)
    waiting = [
        threading.Thread(target=wait_for, args=[elsewhere, task.id, 10])
        for _ in range(MAX_WAITING)
    ]
    for thread in waiting:
        thread.start()
    wait_until(lambda: set(store.readers) == set(waiting))
    response = wait_for(elsewhere, task.id, 10)
    assert response.headers["Chatstop-Outcome"] == "stopping"
    assert all(thread.is_alive() for thread in waiting)
    task.end("stopped")
    for thread in waiting:
        thread.join(5)
    task = new_task(here)
    store.readers.clear()
    wait_for(elsewhere, task.id, 0.2)  # there is a place again
    assert store.readers


@pytest.mark.parametrize("wait", ["", "x", "-1", "11", "nan", "inf", "1e9", "0x1"])
def test_a_wait_that_is_none_is_refused(wait: str) -> None:
    chat = Chat()
    task = new_task(chat)
    assert error(wait_for(chat, task.id, wait)) == (400, "invalid_param")
    assert not task.stopped

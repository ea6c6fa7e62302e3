"""The stop that waits for its task's end: ``?wait=2``."""

from functools import partial
from typing import Any

import pytest

from flask_chatstop import MemoryBackend
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


@pytest.mark.parametrize(("elsewhere", "outcome"), [(0, "stopped"), (1, "stopping")])
def test_a_stop_that_waits_finds_no_missing_task_when_the_store_has_lost_it(
    elsewhere: int, outcome: str
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
    assert response.headers["Chatstop-Outcome"] == outcome


def test_a_missing_task_is_not_waited_for() -> None:
    chat = Chat()
    assert error(wait_for(chat, "unknown", 10)) == (404, "task_not_found")


def test_waiting_looks_at_the_store_at_most_20_times_a_second() -> None:
    class Counting(MemoryBackend):
        calls = 0

        def stop(self, *arguments: Any) -> Any:
            self.calls += 1
            return super().stop(*arguments)

    backend = Counting()
    chat = Chat(config={"CHATSTOP_BACKEND": backend})
    task = new_task(chat)
    wait_for(chat, task.id, 0.5)
    assert 2 <= backend.calls <= 12


@pytest.mark.parametrize("wait", ["", "x", "-1", "11", "nan", "inf", "1e9", "0x1"])
def test_a_wait_that_is_none_is_refused(wait: str) -> None:
    chat = Chat()
    task = new_task(chat)
    assert error(wait_for(chat, task.id, wait)) == (400, "invalid_param")
    assert not task.stopped

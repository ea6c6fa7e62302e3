"""In which order an end is told: to the app, to its own process, to the client."""

import threading

import pytest

from flask_chatstop import (
    EndReason,
    GenerationEnd,
    GenerationTask,
    TaskRecord,
    task_ended,
)
from flask_chatstop.testing import wait_until
from tests.support.chat import Chat
from tests.support.faulty_worker import FaultyBackend


class Told(FaultyBackend):
    """A store that hears of ends when it may, and notes their order."""

    def __init__(self) -> None:
        super().__init__()
        self.may_hear = threading.Event()
        self.order: list[str] = []

    def end(self, record: TaskRecord, reason: EndReason) -> bool:
        assert self.may_hear.wait(10)
        self.order.append(record.task_id)
        return super().end(record, reason)


@pytest.fixture
def backend() -> Told:
    return Told()


@pytest.mark.parametrize("how", ["ended", "stopped"])
def test_a_stop_hears_of_an_end_after_the_app_and_before_the_client(
    backend: Told, how: str
) -> None:
    told: list[tuple[str, str]] = []
    chat = Chat(config={"CHATSTOP_BACKEND": backend})

    def outcome(task_id: str) -> str:
        return chat.stop(task_id).headers["Chatstop-Outcome"]

    def saved(end: GenerationEnd) -> None:
        told.append(("on_end", outcome(end.task_id)))

    def signalled(sender: object, task: GenerationTask, **_: object) -> None:
        told.append(("task_ended", outcome(task.id)))

    with task_ended.connected_to(signalled, chat.app):
        answer = chat.ask()
        chat.tasks[0].on_end(saved)
        if how == "stopped":
            chat.stop(answer.task_id)
        assert answer.rest()[-1]["event"] == "message_end"
        # The store has not heard of it.
        told.append(("message_end", outcome(answer.task_id)))
    assert told == [
        ("on_end", "stopping"),
        ("task_ended", "stopping"),
        ("message_end", how),
    ]
    backend.may_hear.set()


def test_the_store_is_told_of_ends_in_their_order(backend: Told) -> None:
    chat = Chat(config={"CHATSTOP_BACKEND": backend})
    answers = [chat.ask() for _ in range(5)]
    ended = [answers[number] for number in (3, 0, 4, 1, 2)]
    for answer in ended:
        answer.rest()
    backend.may_hear.set()
    wait_until(lambda: len(backend.order) == 5)
    assert backend.order == [answer.task_id for answer in ended]

"""Stopping all tasks of a user at once."""

import threading
from typing import Any

import pytest
from flask import Flask

from flask_chatstop import (
    ChatStop,
    EndReason,
    InvalidParam,
    MemoryBackend,
    TaskInfo,
    stop_requested,
)
from flask_chatstop.testing import wait_until
from tests.support.apps import new_task, start
from tests.support.chat import AUTH, OTHER_AUTH, Chat


def test_all_tasks_of_a_user_can_be_stopped_at_once() -> None:
    backend = MemoryBackend()
    here, there = (Chat(config={"CHATSTOP_BACKEND": backend}) for _ in range(2))
    web = ChatStop("web", source="web-app")
    here.app.register_blueprint(web, url_prefix="/web")
    mine = [new_task(here), new_task(there), new_task(there)]
    bobs = here.ask(user="bob")
    strangers = here.ask(auth=OTHER_AUTH)
    web_task = start(here.app, web)
    heard: list[str] = []

    def receiver(sender: Flask, task_id: str, **_: object) -> None:
        heard.append(task_id)

    with here.app.app_context(), stop_requested.connected_to(receiver):
        assert here.chatstop.stop_all(user="alice", app="demo") == 3
    assert sorted(heard) == sorted(task.id for task in mine)
    wait_until(lambda: all(task.stopped for task in mine))
    assert not web_task.stopped
    assert not any(task.stopped for task in here.tasks)
    bobs.leave()
    strangers.leave()


def test_those_that_have_ended_meanwhile_are_counted_among_all_that_were_stopped() -> (
    None
):
    class Slow(MemoryBackend):
        def tasks(self, **wanted: Any) -> list[TaskInfo]:
            found = super().tasks(**wanted)
            for info in found:
                self.end(info.record, EndReason.STOPPED)
            return found[1:]  # and one it has lost

    chat = Chat(config={"CHATSTOP_BACKEND": Slow()})
    tasks = [new_task(chat) for _ in range(3)]
    with chat.app.app_context():
        assert chat.chatstop.stop_all(user="alice", app="demo") == 3
    assert all(task.stopped for task in tasks)


def test_the_app_of_the_request_is_the_default_of_stopping_all() -> None:
    chat = Chat()
    stopped = threading.Event()

    @chat.app.post("/logout")
    @chat.chatstop.login_required
    def logout() -> str:
        return str(chat.chatstop.stop_all(user="alice"))

    task = new_task(chat)
    task.on_stop(stopped.set)
    assert chat.client.post("/logout", headers=OTHER_AUTH).text == "0"
    assert not task.stopped
    assert chat.client.post("/logout", headers=AUTH).text == "1"
    assert stopped.wait(5)


@pytest.mark.parametrize("user", [None, "", 7, ["alice"], "a\0b"])
def test_all_tasks_of_nobody_in_particular_are_never_stopped(user: Any) -> None:
    chat = Chat()
    task = new_task(chat)
    with chat.app.app_context(), pytest.raises(InvalidParam):
        chat.chatstop.stop_all(user=user, app="demo")
    assert not task.stopped


@pytest.mark.parametrize("everybody", [False, None, 1, "yes"])
def test_only_true_means_everybody(everybody: Any) -> None:
    chat = Chat()
    task = new_task(chat)
    with chat.app.app_context():
        for everyones in (chat.chatstop.stop_all, chat.chatstop.tasks):
            with pytest.raises(InvalidParam):
                everyones(app="demo", everybody=everybody)
    assert not task.stopped


def test_a_user_and_everybody_are_not_asked_for_together() -> None:
    chat = Chat()
    with chat.app.app_context(), pytest.raises(TypeError, match="not both"):
        chat.chatstop.stop_all(user="alice", everybody=True)


def test_everybody_is_stopped_but_for_the_tasks_of_another_chatstop() -> None:
    backend = MemoryBackend()
    here, there = (Chat(config={"CHATSTOP_BACKEND": backend}) for _ in range(2))
    web = ChatStop("web", source="web-app")
    here.app.register_blueprint(web, url_prefix="/web")
    web_task = start(here.app, web)
    with here.app.app_context():
        begin = here.chatstop.start
        mine, bobs = begin(user="alice", app="demo"), begin(user="bob", app="other")
        elsewhere = new_task(there)
        assert here.chatstop.stop_all(everybody=True, app="other") == 1
        assert bobs.stopped and not mine.stopped
        assert here.chatstop.stop_all(everybody=True) == 3
        wait_until(lambda: mine.stopped and elsewhere.stopped)
        assert not web_task.stopped

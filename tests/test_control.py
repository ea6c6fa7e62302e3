"""Starting, listing and stopping tasks in the app's own code, without a request."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask

from flask_chatstop import (
    ChatStop,
    ConfigurationError,
    EndReason,
    GenerationTask,
    InvalidParam,
    MemoryBackend,
    Owner,
    StopOutcome,
    TaskRecord,
    stop_requested,
)
from tests.support.apps import make_app
from tests.support.chat import AUTH, Chat

ALICE: dict[str, Any] = {"user": "alice", "app": "demo"}


def begin(chat: Chat, user: str = "alice", app: str = "demo") -> GenerationTask:
    """Begin a task as the worker of a job queue does."""
    with chat.app.app_context():
        return chat.chatstop.start(user=user, app=app)


def ends_when_stopped(task: GenerationTask) -> None:
    task.on_stop(lambda: task.end("stopped"))


def test_a_job_begins_a_task_that_its_user_can_stop() -> None:
    chat = Chat()
    task = begin(chat)
    assert task.record.owner == Owner("demo", "service-api", "alice")
    assert chat.stop(task.id, user="bob").status_code == 404
    assert chat.stop(task.id).headers["Chatstop-Outcome"] == "stopping"
    assert task.stopped


def test_a_stop_that_waits_returns_when_the_answer_is_saved() -> None:
    backend = MemoryBackend()
    here, there = (Chat(config={"CHATSTOP_BACKEND": backend}) for _ in range(2))
    for chat in (here, there):
        task = begin(here)
        saved: list[str] = []
        task.on_end(lambda end, saved=saved: saved.append(end.reason))  # type: ignore[misc]
        ends_when_stopped(task)
        with chat.app.app_context():
            outcome = chat.chatstop.stop(task.id, **ALICE, wait=10)
        assert outcome is StopOutcome.STOPPED
        assert saved == ["stopped"]


def test_a_stop_that_does_not_wait_is_told_to_the_receivers() -> None:
    chat = Chat()
    task = begin(chat)
    heard: list[object] = []

    def receiver(sender: Flask, **values: object) -> None:
        heard.append((sender, *values.values()))

    with chat.app.app_context(), stop_requested.connected_to(receiver):
        assert chat.chatstop.stop(task.id, **ALICE) is StopOutcome.STOPPING
    assert heard == [(chat.app, task.id, task.record.owner, "stopping")]


def test_the_waits_of_the_app_are_not_limited_as_those_of_clients_are() -> None:
    chat = Chat()
    number = 9  # one more than clients may have in a worker
    all_stop = threading.Barrier(number)

    def end(task: GenerationTask) -> None:
        all_stop.wait(10)
        task.end("stopped")

    def stop(task: GenerationTask) -> StopOutcome:
        with chat.app.app_context():
            return chat.chatstop.stop(task.id, **ALICE, wait=20)

    tasks = [begin(chat) for _ in range(number)]
    for task in tasks:
        task.on_stop(lambda task=task: end(task))  # type: ignore[misc]
    with ThreadPoolExecutor(number) as pool:
        assert set(pool.map(stop, tasks)) == {StopOutcome.STOPPED}


def test_a_task_in_place_of_its_id_is_refused() -> None:
    chat = Chat()
    task = begin(chat)
    with (
        chat.app.app_context(),
        pytest.raises(TypeError, match=r"give its id, task\.id"),
    ):
        chat.chatstop.stop(task, **ALICE)  # type: ignore[arg-type]
    assert not task.stopped


@pytest.mark.parametrize(
    "options",
    [{"user": "bob", "app": "demo"}, {"user": "alice", "app": "other"}],
)
def test_a_task_of_another_owner_is_missing(options: dict[str, Any]) -> None:
    chat = Chat()
    task = begin(chat)
    with chat.app.app_context():
        assert chat.chatstop.stop(task.id, **options) is StopOutcome.MISSING
        for unknown in ("unknown", "", None, "a\0b"):
            found = chat.chatstop.stop(unknown, **ALICE)  # type: ignore[arg-type]
            assert found is StopOutcome.MISSING
    assert not task.stopped


def calls(chatstop: ChatStop, **options: Any) -> dict[str, Any]:
    """Return every call that has an owner."""
    return {
        "start": lambda: chatstop.start(**options),
        "stop": lambda: chatstop.stop("x", **options),
        "stop_all": lambda: chatstop.stop_all(**options),
        "tasks": lambda: chatstop.tasks(**options),
    }


@pytest.mark.parametrize("name", ["start", "stop", "stop_all", "tasks"])
def test_without_a_request_the_app_has_to_be_given(name: str) -> None:
    chat = Chat()
    with (
        chat.app.app_context(),
        pytest.raises(ConfigurationError, match="give app="),
    ):
        calls(chat.chatstop, user="alice")[name]()
    with (
        chat.app.test_request_context(),
        pytest.raises(ConfigurationError, match=r"behind login_required.*pass app="),
    ):
        calls(chat.chatstop, user="alice")[name]()


@pytest.mark.parametrize("name", ["start", "stop", "stop_all", "tasks"])
@pytest.mark.parametrize(
    "options",
    [{"app": "demo"}, {"user": "", "app": "demo"}, {"user": "alice", "app": ""}],
)
def test_an_owner_that_is_none_by_mistake_is_refused(
    name: str, options: dict[str, str]
) -> None:
    chat = Chat()
    with chat.app.app_context(), pytest.raises(InvalidParam):
        calls(chat.chatstop, **options)[name]()


@pytest.mark.parametrize("wait", [-1, "5", float("nan")])
def test_a_wait_that_is_no_time_is_refused(wait: Any) -> None:
    chat = Chat()
    with chat.app.app_context(), pytest.raises(ConfigurationError, match="wait"):
        chat.chatstop.stop("x", **ALICE, wait=wait)


def test_the_user_of_the_session_is_the_default_and_not_a_must() -> None:
    chatstop = ChatStop(user_loader=lambda: "alice")
    app = make_app(chatstop)

    @app.post("/check")
    @chatstop.login_required
    def check() -> str:
        alices = chatstop.start()
        with pytest.raises(InvalidParam):
            chatstop.start(user="bob")
        bobs = chatstop.start(user="bob", app="demo")
        assert [info.record for info in chatstop.tasks()] == [alices.record]
        assert chatstop.stop(bobs.id) is StopOutcome.MISSING
        assert chatstop.stop(bobs.id, user="bob") is StopOutcome.STOPPING
        assert chatstop.stop_all() == 1
        assert alices.stopped
        for task in (alices, bobs):
            task.end("stopped")
        return "checked"

    assert app.test_client().post("/check", headers=AUTH).text == "checked"


def test_no_session_is_asked_for_where_there_is_no_request() -> None:
    def user_loader() -> str:
        raise AssertionError("there is no session")

    chatstop = ChatStop(user_loader=user_loader)
    with make_app(chatstop).app_context():
        task = chatstop.start(**ALICE)
        assert chatstop.stop(task.id, **ALICE) is StopOutcome.STOPPING
        with pytest.raises(InvalidParam):
            chatstop.stop_all(app="demo")


@pytest.mark.parametrize("is_enabled", [True, False])
def test_tasks_are_listed_of_a_user_and_of_everybody(is_enabled: bool) -> None:
    chat = Chat(config={"CHATSTOP_ENABLED": is_enabled})
    web = ChatStop("web", source="web-app")
    chat.app.register_blueprint(web, url_prefix="/web")
    alices, bobs = begin(chat), begin(chat, "bob", "other")
    with chat.app.app_context():
        others = web.start(**ALICE)
        tasks = chat.chatstop.tasks
        assert [info.record for info in tasks(**ALICE)] == [alices.record]
        assert tasks(user="alice", app="other") == []
        bobs.stop()
        found = tasks(everybody=True)
        assert [info.record for info in found] == [alices.record, bobs.record]
        assert [info.record for info in tasks(everybody=True, app="other")] == [
            bobs.record
        ]
        assert [info.record for info in web.tasks(everybody=True)] == [others.record]
        assert all(0 <= info.age < 60 for info in found)


def test_ends_that_were_flushed_are_known_to_the_store() -> None:
    is_open = threading.Event()

    class Slow(MemoryBackend):
        def end(self, record: TaskRecord, reason: EndReason) -> bool:
            assert is_open.wait(10)
            return super().end(record, reason)

    backend = Slow()
    chat = Chat(config={"CHATSTOP_BACKEND": backend})
    with chat.app.app_context():
        task = chat.chatstop.start(**ALICE)
        task.end("finished")
        assert chat.chatstop.flush(timeout=0.01) is False
        is_open.set()
        assert chat.chatstop.flush() is True
    assert backend.stop(task.id, task.record.owner) is StopOutcome.ENDED

"""What comes with the stop route: its family, waiting, stopping all, its OpenAPI."""

import threading
from functools import partial
from typing import Any

import pytest
from flask import Flask

from flask_chatstop import (
    ChatStop,
    ConfigurationError,
    EndReason,
    InvalidParam,
    MemoryBackend,
    TaskInfo,
    stop_requested,
)
from flask_chatstop.testing import wait_until
from tests.support.apps import make_app, new_task, start, stop
from tests.support.chat import AUTH, KEYS, OTHER_AUTH, Chat
from tests.support.route import Door, error

FAMILY = ("chat-messages", "completion-messages", "workflows/tasks")


def test_the_family_of_routes_is_served_by_one_blueprint() -> None:
    chatstop = ChatStop(routes=FAMILY)
    app = make_app(chatstop)
    client = app.test_client()
    for route in FAMILY:
        task = start(app, chatstop)
        url = f"/v1/{route}/{task.id}/stop"
        response = client.post(url, json={"user": "alice"}, headers=AUTH)
        assert response.get_json() == {"result": "success"}
        assert task.stopped
        assert error(client.get(url)) == (405, "method_not_allowed")


def test_without_asking_only_the_chat_is_served() -> None:
    client = make_app().test_client()
    assert client.post("/v1/workflows/tasks/x/stop", headers=AUTH).status_code == 404


def test_a_prefix_may_have_variables_of_its_own() -> None:
    chatstop = ChatStop()
    app = Flask("app")
    app.config["CHATSTOP_API_KEYS"] = KEYS
    app.register_blueprint(chatstop, url_prefix="/<tenant>/v1")
    assert stop(app.test_client(), start(app, chatstop).id, "/acme/v1") == 200
    with app.test_request_context():
        [path] = chatstop.openapi()["paths"]
    assert path == "/{tenant}/v1/chat-messages/{task_id}/stop"


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


def openapi(chatstop: ChatStop, **config: Any) -> Any:
    with make_app(chatstop, **config).test_request_context():
        return chatstop.openapi()


def test_its_openapi_agrees_with_the_published_contract() -> None:
    document = openapi(ChatStop())
    operation = document["paths"]["/v1/chat-messages/{task_id}/stop"]["post"]
    task_id = operation["parameters"][0]
    assert (task_id["name"], task_id["in"], task_id["required"]) == (
        "task_id",
        "path",
        True,
    )
    assert task_id["schema"]["type"] == "string"
    assert operation["requestBody"]["required"] is True
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    assert (body["type"], body["required"]) == ("object", ["user"])
    assert body["properties"]["user"]["type"] == "string"
    success = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert success["type"] == "object"
    assert success["properties"]["result"]["type"] == "string"
    scheme = document["components"]["securitySchemes"]["ApiKeyAuth"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert operation["security"] == [{"ApiKeyAuth": []}]
    assert document["openapi"].startswith("3.0")


def test_its_openapi_has_every_route_under_a_name_of_its_own() -> None:
    paths = openapi(ChatStop(routes=FAMILY))["paths"]
    assert list(paths) == [f"/v1/{route}/{{task_id}}/stop" for route in FAMILY]
    names = [path["post"]["operationId"] for path in paths.values()]
    assert len(set(names)) == 3


def test_its_openapi_tells_what_is_configured() -> None:
    document = openapi(ChatStop(), CHATSTOP_MISSING_OK=True)
    [path] = document["paths"].values()
    assert "404" not in path["post"]["responses"]
    assert "WWW-Authenticate" in path["post"]["responses"]["401"]["headers"]


def test_its_openapi_promises_nothing_of_an_authenticator_of_the_apps_own() -> None:
    [path] = openapi(ChatStop(auth=Door()))["paths"].values()
    assert "headers" not in path["post"]["responses"]["401"]
    assert "security" not in path["post"]


@pytest.mark.parametrize("user", [None, "", 7, ["alice"], "a\0b"])
def test_all_tasks_of_nobody_in_particular_are_never_stopped(user: Any) -> None:
    chat = Chat()
    task = new_task(chat)
    with chat.app.app_context(), pytest.raises(InvalidParam):
        chat.chatstop.stop_all(user=user, app="demo")
    assert not task.stopped


@pytest.mark.parametrize(
    "routes", ["chat-messages", (), None, [5], [""], ["/"], ["<task_id>"]]
)
def test_routes_that_are_no_list_are_refused(routes: Any) -> None:
    with pytest.raises(ConfigurationError, match="routes is"):
        ChatStop(routes=routes)


def test_an_authenticator_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="login_required and current_user"):
        ChatStop(auth=object())  # type: ignore[arg-type]


def test_a_user_loader_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="user_loader is a str"):
        ChatStop(user_loader="alice")  # type: ignore[arg-type]


@pytest.mark.parametrize("user", [True, ["alice"], "", 1.5])
def test_a_user_loader_that_gives_no_user_is_told_so(user: Any) -> None:
    chatstop = ChatStop(auth=Door(), user_loader=lambda: user)
    app = make_app(chatstop)
    with (
        app.test_request_context(),
        pytest.raises(ConfigurationError, match="must return a string"),
    ):
        chatstop.start()

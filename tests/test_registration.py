"""Registering the blueprint: configuration, several apps, several on one app."""

from typing import Any

import pytest
from flask import Blueprint, Flask
from flask_httpauth import HTTPBasicAuth, HTTPTokenAuth, MultiAuth

from flask_chatstop import (
    ChatStop,
    ConfigurationError,
    MemoryBackend,
    SingleUserAuth,
)
from tests.support.apps import make_app, start, stop
from tests.support.chat import AUTH, KEYS, Chat
from tests.support.threads import threads_begun


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CHATSTOP_BACKEND", ""),
        ("CHATSTOP_BACKEND", 7),
        ("CHATSTOP_BACKEND", MemoryBackend),
        ("CHATSTOP_BACKEND", "carrier-pigeon://loft"),
        ("CHATSTOP_API_KEYS", "key"),
        ("CHATSTOP_MISSING_OK", "no"),
        ("CHATSTOP_MISSING_OK", 1),
        ("CHATSTOP_LEASE", 0),
        ("CHATSTOP_LEASE", "60"),
        ("CHATSTOP_RETENTION", -1),
        ("CHATSTOP_RETENTION", float("inf")),
        ("CHATSTOP_SWEEP_INTERVAL", float("nan")),
        ("CHATSTOP_SWEEP_INTERVAL", True),
        ("CHATSTOP_CLIENT_TIMEOUT", 0),
        ("CHATSTOP_OPERATION_TIMEOUT", 0),
        ("CHATSTOP_OPERATION_TIMEOUT", "2s"),
        ("CHATSTOP_EVENTS_MAX_BYTES", "8 MiB"),
        ("CHATSTOP_EVENTS_MAX_BYTES", 0),
    ],
)
def test_a_wrong_value_is_an_error_that_says_what_to_set(name: str, value: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"[Ss]et it|use a URL|make it"
    ) as caught:
        make_app(**{name: value})
    assert name in str(caught.value)


def test_without_a_key_there_is_no_open_route() -> None:
    with pytest.raises(ConfigurationError, match="set CHATSTOP_API_KEYS"):
        make_app(CHATSTOP_API_KEYS=None)


def test_the_times_reach_the_backend_and_the_worker() -> None:
    app = make_app(
        CHATSTOP_LEASE=7,
        CHATSTOP_RETENTION=8,
        CHATSTOP_OPERATION_TIMEOUT=0.5,
        CHATSTOP_SWEEP_INTERVAL=0.25,
    )
    worker = app.extensions["chatstop"].worker
    backend = worker.backend
    assert (backend.lease, backend.retention, backend.timeout) == (7.0, 8.0, 0.5)
    assert worker.sweep_interval == 0.25


@pytest.mark.parametrize("name", ["OPERATION_TIMEOUT", "SWEEP_INTERVAL"])
def test_a_time_that_is_longer_than_the_lease_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"CHATSTOP_{name} is 8, .* at most 7"):
        make_app(**{"CHATSTOP_LEASE": 7, f"CHATSTOP_{name}": 8})
    worker = make_app(CHATSTOP_LEASE=1).extensions["chatstop"].worker
    assert (worker.backend.timeout, worker.sweep_interval) == (1.0, 1.0)


def test_an_unknown_setting_is_named_in_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    make_app(CHATSTOP_LEASE=7, CHATSTOP_SWEEP_INTERVALL=7, CHATSTOP_COLOUR="red")
    assert [line for line in caplog.messages if "is no setting" in line] == [
        "CHATSTOP_COLOUR is no setting of chatstop.",
        "CHATSTOP_SWEEP_INTERVALL is no setting of chatstop; did you mean"
        " CHATSTOP_SWEEP_INTERVAL?",
    ]


def test_a_time_that_an_instance_would_ignore_is_refused() -> None:
    make_app(CHATSTOP_BACKEND=MemoryBackend(lease=5))
    with pytest.raises(ConfigurationError, match="CHATSTOP_LEASE has no effect"):
        make_app(CHATSTOP_BACKEND=MemoryBackend(lease=5), CHATSTOP_LEASE=7)


def test_a_timeout_of_an_instance_that_is_longer_than_its_lease_is_refused() -> None:
    make_app(CHATSTOP_BACKEND=MemoryBackend(lease=5, timeout=5))
    advice = r"MemoryBackend\(\) a timeout of at most 5"
    with pytest.raises(ConfigurationError, match=advice):
        make_app(CHATSTOP_BACKEND=MemoryBackend(lease=5, timeout=5.5))


@pytest.mark.parametrize("source", ["", 7, "x" * 256])
def test_a_source_that_cannot_be_one_is_refused(source: Any) -> None:
    with pytest.raises(ConfigurationError, match="source is"):
        ChatStop(source=source)


def test_one_blueprint_on_several_apps_keeps_them_apart() -> None:
    chatstop = ChatStop()
    one = make_app(chatstop)
    two = make_app(chatstop, CHATSTOP_API_KEYS={"demo-key": "elsewhere"})
    task = start(one, chatstop)
    assert stop(two.test_client(), task.id) == 404
    assert stop(one.test_client(), task.id) == 200


def test_several_on_one_app_cannot_stop_each_others_tasks() -> None:
    api, web = ChatStop(), ChatStop("web", source="web-app")
    app = make_app(api)
    app.register_blueprint(web, url_prefix="/web")
    client = app.test_client()
    api_task, web_task = start(app, api), start(app, web)
    assert stop(client, web_task.id, "/v1") == 404
    assert stop(client, api_task.id, "/web") == 404
    assert not api_task.stopped and not web_task.stopped
    assert stop(client, web_task.id, "/web") == 200
    assert stop(client, api_task.id, "/v1") == 200


@pytest.mark.parametrize("events", [None, "memory://"])
def test_two_at_one_url_are_refused(events: str | None) -> None:
    app = make_app(CHATSTOP_EVENTS=events)
    app.register_blueprint(ChatStop("one"), url_prefix="/chat")
    with pytest.raises(ConfigurationError, match=r"'two.stop' and 'one.stop' have the"):
        app.register_blueprint(ChatStop("two"), url_prefix="/chat")


def test_a_class_in_place_of_an_object_is_told_how_to_make_one() -> None:
    with pytest.raises(ConfigurationError, match=r"like SingleUserAuth\(\.\.\.\)"):
        ChatStop(auth=SingleUserAuth)  # type: ignore[arg-type]


def test_an_app_in_place_of_a_name_is_told_how_to_register() -> None:
    with pytest.raises(ConfigurationError, match=r"app\.register_blueprint\(ChatStop"):
        ChatStop(Flask("app"))  # type: ignore[arg-type]


def test_one_blueprint_twice_on_an_app_is_one_chat_under_two_urls() -> None:
    chatstop = ChatStop()
    app = make_app(chatstop)
    app.register_blueprint(chatstop, url_prefix="/v2", name="again")
    assert stop(app.test_client(), start(app, chatstop).id, "/v2") == 200


def test_it_can_be_nested_in_another_blueprint() -> None:
    chatstop = ChatStop()
    parent = Blueprint("parent", "parent")
    parent.register_blueprint(chatstop, url_prefix="/v1")
    app = Flask("app")
    app.config["CHATSTOP_API_KEYS"] = KEYS
    app.register_blueprint(parent, url_prefix="/api")
    task = start(app, chatstop)
    assert stop(app.test_client(), task.id, "/api/v1") == 200
    with app.test_request_context():
        url = app.url_for("parent.chatstop.stop", task_id="x", _external=False)
    assert url == "/api/v1/chat-messages/x/stop"


def test_a_url_prefix_may_be_its_own() -> None:
    chatstop = ChatStop(url_prefix="/own")
    app = Flask("app")
    app.config["CHATSTOP_API_KEYS"] = KEYS
    app.register_blueprint(chatstop)
    assert stop(app.test_client(), start(app, chatstop).id, "/own") == 200


def test_a_hundred_apps_are_a_hundred_chats_and_no_thread_before_a_task() -> None:
    chatstop = ChatStop()
    with threads_begun() as begun:
        apps = [make_app(chatstop) for _ in range(100)]
    assert begun == []
    task = start(apps[0], chatstop, task_id="one")
    for app in apps[1:]:
        assert stop(app.test_client(), "one") == 404
    assert stop(apps[0].test_client(), "one") == 200
    assert task.stopped


def test_an_app_that_it_is_not_registered_on_is_told_so() -> None:
    chatstop = ChatStop()
    app = Flask("app")
    with (
        app.test_request_context(headers=AUTH),
        pytest.raises(ConfigurationError, match="register_blueprint"),
    ):
        chatstop.start(user="alice")


def test_a_view_that_nobody_guards_is_told_so() -> None:
    chatstop = ChatStop()
    with (
        make_app(chatstop).test_request_context(headers=AUTH),
        pytest.raises(ConfigurationError, match="behind login_required"),
    ):
        chatstop.start(user="alice")


def test_any_object_of_flask_httpauth_can_guard_it() -> None:
    basic, token = HTTPBasicAuth(), HTTPTokenAuth("Bearer")
    basic.verify_password(lambda name, password: password == "x" and name)
    token.verify_token(lambda token: {"t": "by-token"}.get(token))
    chatstop = ChatStop(auth=MultiAuth(basic, token))
    app = make_app(chatstop, CHATSTOP_API_KEYS=None)
    client = app.test_client()
    url = "/v1/chat-messages/x/stop"
    body = {"user": "alice"}
    assert client.post(url, json=body, auth=("shop", "x")).status_code == 404
    refused = client.post(url, json=body, auth=("shop", "y"))
    assert refused.status_code == 401
    assert refused.get_json()["code"] == "unauthorized"
    headers = {"Authorization": "Bearer t"}
    assert client.post(url, json=body, headers=headers).status_code == 404


def test_the_memory_backend_under_several_processes_is_an_error_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    chat = Chat()
    environ = {"wsgi.multiprocess": True}
    for _ in range(3):
        chat.client.post(
            "/v1/chat-messages/x/stop",
            json={"user": "alice"},
            headers=AUTH,
            environ_overrides=environ,
        )
    [line] = [x for x in caplog.messages if "Set CHATSTOP_BACKEND" in x]
    assert ("ERROR", line) in [(x.levelname, x.message) for x in caplog.records]


def test_one_process_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    Chat().ask().rest()
    assert "CHATSTOP_BACKEND" not in caplog.text

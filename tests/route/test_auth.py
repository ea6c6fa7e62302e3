"""Authenticators of the app's own, and users that a session names."""

from typing import Any

import pytest
from flask import Flask, Response, abort

from flask_chatstop import ChatStop, ConfigurationError, Owner
from tests.support.apps import make_app
from tests.support.route import Door, error


class Blockade(Door):
    """An authenticator that answers with a status of its own making."""

    def login_required(self, view: Any) -> Any:
        return lambda *args, **kwargs: Response("<h1>blocked</h1>", 450)


def app_with(chatstop: ChatStop) -> Flask:
    app = Flask("shop")
    app.register_blueprint(chatstop)
    return app


def test_another_authenticator_decides_and_its_refusal_is_json() -> None:
    door = Door()
    client = app_with(ChatStop(auth=door)).test_client()
    url = "/chat-messages/some-id/stop"
    assert error(client.post(url, json={"user": "alice"})) == (404, "task_not_found")
    door.is_open = False
    response = client.post(url, json={"user": "alice"})
    assert error(response) == (401, "unauthorized")
    assert response.headers["WWW-Authenticate"] == "Door"


class Abort(Door):
    """An authenticator that aborts."""

    def login_required(self, view: Any) -> Any:
        return lambda *args, **kwargs: abort(403)


def test_a_refusal_is_json_though_the_app_has_a_page_for_it() -> None:
    app = app_with(ChatStop(auth=Abort()))
    app.register_error_handler(403, lambda error: ("<h1>no</h1>", 403))
    response = app.test_client().post("/chat-messages/x/stop", json={"user": "alice"})
    assert error(response) == (403, "forbidden")


def test_a_refusal_of_no_known_status_is_json_as_well() -> None:
    client = app_with(ChatStop(auth=Blockade())).test_client()
    response = client.post("/chat-messages/some-id/stop", json={"user": "alice"})
    assert error(response) == (450, "error")


@pytest.mark.parametrize("name", [None, 7, "", object()])
def test_an_authenticator_that_names_no_app_is_told_what_to_do(
    name: object, caplog: pytest.LogCaptureFixture
) -> None:
    client = app_with(ChatStop(auth=Door(name))).test_client()
    response = client.post("/chat-messages/some-id/stop", json={"user": "alice"})
    assert error(response) == (500, "internal_server_error")
    assert "return the app's name" in caplog.text


def test_the_user_of_a_session_is_trusted_and_not_the_body() -> None:
    session: dict[str, str | int | None] = {"user": "alice"}
    chatstop = ChatStop(auth=Door(), user_loader=lambda: session["user"])
    app = app_with(chatstop)
    client = app.test_client()
    with app.test_request_context():
        task = chatstop.start()
    url = f"/chat-messages/{task.id}/stop"
    assert task.record.owner == Owner("shop", "service-api", "alice")
    assert error(client.post(url, json={"user": "bob"})) == (404, "task_not_found")
    session["user"] = "bob"
    assert error(client.post(url, json={"user": "alice"})) == (404, "task_not_found")
    assert error(client.post(url, json={})) == (404, "task_not_found")
    session["user"] = None
    assert error(client.post(url, json={"user": "alice"})) == (403, "forbidden")
    assert not task.stopped
    session["user"] = "alice"
    assert client.post(url, json={}).status_code == 200
    assert task.stopped


def test_the_id_of_a_user_may_be_a_number() -> None:
    chatstop = ChatStop(auth=Door(), user_loader=lambda: 7)
    with app_with(chatstop).test_request_context():
        assert chatstop.start().record.owner.user == "7"


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

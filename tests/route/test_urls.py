"""The URLs of the stop route: its family, and prefixes."""

from typing import Any

import pytest
from flask import Flask

from flask_chatstop import (
    ChatStop,
    ConfigurationError,
)
from tests.support.apps import make_app, start, stop
from tests.support.chat import AUTH, KEYS
from tests.support.route import FAMILY, error


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


@pytest.mark.parametrize(
    "routes", ["chat-messages", (), None, [5], [""], ["/"], ["<task_id>"]]
)
def test_routes_that_are_no_list_are_refused(routes: Any) -> None:
    with pytest.raises(ConfigurationError, match="routes is"):
        ChatStop(routes=routes)

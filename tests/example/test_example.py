"""The example app: both modes of answering, both kinds of model, bad input."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

import example_app
from tests.support.chat import AUTH, Answer
from tests.support.provider import TOKENS, Provider, provider


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    for name in [name for name in os.environ if name.startswith(("FLASK_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    return example_app.create_app().test_client()


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    example_app.model_client.cache_clear()
    with provider(then="end") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "any")
        yield server
    example_app.model_client.cache_clear()


def send(client: FlaskClient, **body: Any) -> Any:
    return client.post("/v1/chat-messages", json=body, headers=AUTH)


def test_it_streams_from_the_built_in_model_until_it_is_stopped(
    client: FlaskClient,
) -> None:
    answer = Answer(send(client, query="hi", user="alice", conversation_id="c-1"))
    assert answer.first["conversation_id"] == "c-1"
    assert "You said 'hi'" in answer.next()["answer"]
    url = f"/v1/chat-messages/{answer.task_id}/stop"
    assert client.post(url, json={"user": "alice"}, headers=AUTH).status_code == 200
    assert answer.rest()[-1]["metadata"]["end_reason"] == "stopped"


def test_it_streams_from_an_openai_compatible_server(
    client: FlaskClient, model: Provider
) -> None:
    events = Answer(send(client, query="hi", user="alice")).rest()
    assert [event.get("answer") for event in events] == [*TOKENS, None]
    assert events[-1]["metadata"]["end_reason"] == "finished"


def test_it_answers_at_once_in_blocking_mode(client: FlaskClient) -> None:
    response = send(client, query="hi", user="alice", response_mode="blocking")
    body = response.json
    assert body["event"] == "message" and body["mode"] == "chat"
    assert body["answer"].endswith("299 300 ")
    assert body["id"] == body["message_id"]
    assert body["metadata"]["usage"]["total_price"] == "0"
    url = f"/v1/chat-messages/{body['task_id']}/stop"
    assert client.post(url, json={"user": "alice"}, headers=AUTH).status_code == 404


@pytest.mark.parametrize("body", [[], {}, {"query": 7}, {"query": "hi"}, "hi", None])
def test_bad_input_is_no_error_of_its_own(client: FlaskClient, body: Any) -> None:
    response = client.post("/v1/chat-messages", json=body, headers=AUTH)
    assert 400 <= response.status_code < 500


def test_a_key_is_needed(client: FlaskClient) -> None:
    assert client.post("/v1/chat-messages", json={}).status_code == 401


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_CHATSTOP_API_KEYS", '{"my-key": "my-app"}')
    client = example_app.create_app().test_client()
    url, body = "/v1/chat-messages/x/stop", {"user": "alice"}
    assert client.post(url, json=body, headers=AUTH).status_code == 401
    mine = {"Authorization": "Bearer my-key"}
    assert client.post(url, json=body, headers=mine).status_code == 404

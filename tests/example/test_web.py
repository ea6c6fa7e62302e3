"""The server's side of the chat page: whose chat it is, and what is kept of it."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import example_app
from example.conversations import Conversations
from tests.support.chat import AUTH, Answer

Open = Callable[[], FlaskClient]


@pytest.fixture
def visit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Open:
    """Give what opens the page, each time in a browser and a worker of its own."""
    for name in [name for name in os.environ if name.startswith(("FLASK_", "OPENAI_"))]:
        monkeypatch.delenv(name)

    def open_page() -> FlaskClient:
        app = example_app.create_app({"CHAT_DATABASE": tmp_path / "new" / "chat.db"})
        return visitor_of(app)

    return open_page


def visitor_of(app: Flask) -> FlaskClient:
    client = app.test_client()
    with client.get("/") as response:
        assert response.status_code == 200
    return client


def ask(client: FlaskClient, query: str = "hi") -> Answer:
    response = client.post("/web/chat-messages", json={"query": query})
    assert response.status_code == 200, response.data
    return Answer(response)


def stop(client: FlaskClient, task_id: str, **options: Any) -> TestResponse:
    return client.post(f"/web/chat-messages/{task_id}/stop", **{"json": {}} | options)


def error_of(response: TestResponse) -> tuple[int, str]:
    assert response.json is not None
    return response.status_code, response.json["code"]


def rows_of(client: FlaskClient) -> list[dict[str, str]]:
    body = client.get("/web/chat-messages").json
    assert body is not None
    rows: list[dict[str, str]] = body["messages"]
    return rows


def kept(client: FlaskClient) -> list[tuple[str, str]]:
    return [(row["state"], row["answer"]) for row in rows_of(client)]


def test_a_visitor_stops_their_answer_and_finds_it_again(visit: Open) -> None:
    client = visit()
    answer = ask(client)
    text = answer.next()["answer"]
    assert stop(client, answer.task_id).json == {"result": "success"}
    assert answer.rest()[-1]["metadata"]["end_reason"] == "stopped"
    assert kept(client) == [("stopped", text)]


def test_the_page_cannot_stop_a_task_of_the_api(visit: Open) -> None:
    client = visit()
    with client.session_transaction() as session:
        user = session["user"]
    body = {"query": "hi", "user": user}
    answer = Answer(client.post("/v1/chat-messages", json=body, headers=AUTH))
    response = stop(client, answer.task_id, json={"user": user})
    assert error_of(response) == (404, "task_not_found")
    assert answer.next()["event"] == "message"
    answer.leave()


def test_the_api_cannot_stop_a_task_of_the_page(visit: Open) -> None:
    client = visit()
    with client.session_transaction() as session:
        user = session["user"]
    answer = ask(client)
    url = f"/v1/chat-messages/{answer.task_id}/stop"
    response = client.post(url, json={"user": user}, headers=AUTH)
    assert error_of(response) == (404, "task_not_found")
    assert answer.next()["event"] == "message"
    stop(client, answer.task_id)
    answer.rest()


def test_another_visitor_can_neither_stop_nor_read_an_answer(visit: Open) -> None:
    client = visit()
    stranger = visitor_of(client.application)
    answer = ask(client)
    assert stop(stranger, answer.task_id).status_code == 404
    assert kept(stranger) == []
    assert kept(client) == [("running", "")]
    stop(client, answer.task_id)
    answer.rest()


@pytest.mark.parametrize(
    "path",
    ["/web/chat-messages", "/web/chat-messages/x/stop", "/web/conversations"],
)
def test_what_a_form_of_another_site_could_send_is_refused(
    visit: Open, path: str
) -> None:
    client = visit()
    for content_type in (
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "text/plain",
    ):
        response = client.post(path, data='{"query": "x"}', content_type=content_type)
        assert response.status_code == 415
    assert kept(client) == []


@pytest.mark.parametrize(
    "path",
    ["/web/chat-messages", "/web/chat-messages/x/stop", "/web/conversations"],
)
def test_nobody_without_a_session_is_let_in(visit: Open, path: str) -> None:
    nobody = visit().application.test_client()
    response = nobody.post(path, json={"query": "hi"})
    assert error_of(response) == (401, "unauthorized")
    assert nobody.post(path, json={"query": "hi"}, headers=AUTH).status_code == 401
    assert nobody.get("/web/chat-messages").status_code == 401


@pytest.mark.parametrize(
    "body",
    [b"[]", b"{}", b'{"query": 7}', b'{"query": " "}', b"{", b"\xff", b"[" * 60_000],
)
def test_a_message_that_is_none_is_refused(visit: Open, body: bytes) -> None:
    client = visit()
    response = client.post(
        "/web/chat-messages", data=body, content_type="application/json"
    )
    assert response.status_code == 400
    assert kept(client) == []


def test_a_message_that_is_too_long_is_refused(visit: Open) -> None:
    body = {"query": "x" * 70_000}
    assert visit().post("/web/chat-messages", json=body).status_code == 413


def test_half_a_character_is_no_error(visit: Open) -> None:
    client = visit()
    answer = ask(client, "half \ud83d")
    stop(client, answer.task_id)
    answer.rest()
    assert rows_of(client)[0]["query"] == "half ?"


def test_every_worker_knows_the_session_and_its_conversation(visit: Open) -> None:
    client, other_worker = visit(), visit().application.test_client()
    answer = ask(client)
    stop(client, answer.task_id)
    answer.rest()
    cookie = client.get_cookie("session")
    assert cookie is not None
    other_worker.set_cookie("session", cookie.value)
    assert kept(other_worker) == kept(client) == [("stopped", "")]


def test_what_is_kept_is_for_its_owner_only(visit: Open, tmp_path: Path) -> None:
    visit()
    mode = (tmp_path / "new" / "chat.db").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_an_answer_whose_worker_was_killed_does_not_run_for_ever(
    visit: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = visit()
    with client.session_transaction() as session:
        user = session["user"]
    conversations = Conversations(tmp_path / "new" / "chat.db")
    conversation_id = conversations.current(user)
    message_id = conversations.begin(user, conversation_id, "of nobody", "hi")
    assert message_id is not None
    assert kept(client) == [("running", "")]
    monkeypatch.setattr("example.conversations.SILENCE", -1.0)
    assert kept(client) == [("interrupted", "")]
    conversations.change(message_id, "stopped", "late")
    assert kept(client) == [("stopped", "late")]


def test_an_answer_that_is_silent_for_long_still_runs(
    visit: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("example.conversations.SILENCE", -1.0)
    client = visit()
    answer = ask(client)
    assert kept(client) == [("running", "")]
    stop(client, answer.task_id)
    answer.rest()
    assert kept(client) == [("stopped", "")]


def begin_another(client: FlaskClient) -> TestResponse:
    return client.post("/web/conversations", json={})


def test_a_new_conversation_is_empty_and_the_old_one_is_kept(
    visit: Open, tmp_path: Path
) -> None:
    client = visit()
    answer = ask(client)
    stop(client, answer.task_id)
    answer.rest()
    before = client.get("/web/chat-messages").json
    assert begin_another(client).status_code == 204
    after = client.get("/web/chat-messages").json
    assert before is not None and after is not None
    assert after["messages"] == []
    assert after["conversation_id"] != before["conversation_id"]
    old = Conversations(tmp_path / "new" / "chat.db").of(before["conversation_id"], [])
    assert old == before["messages"] != []


def test_a_new_conversation_stops_the_answers_of_the_old_one(visit: Open) -> None:
    client = visit()
    stranger = visitor_of(client.application)
    answer, other = ask(client), ask(stranger)
    assert begin_another(client).status_code == 204
    assert answer.rest()[-1]["metadata"]["end_reason"] == "stopped"
    assert kept(stranger) == [("running", "")]
    stop(stranger, other.task_id)
    other.rest()


def test_no_conversation_is_begun_while_nothing_can_be_stopped(
    visit: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASK_CHATSTOP_BACKEND", "redis://127.0.0.1:1")
    client = visit()
    before = client.get("/web/chat-messages")
    assert before.status_code == 200
    assert error_of(begin_another(client)) == (503, "unavailable")
    assert client.get("/web/chat-messages").json == before.json


def test_a_message_for_an_old_conversation_is_not_answered(visit: Open) -> None:
    client = visit()
    old = client.get("/web/chat-messages").json
    assert old is not None
    begin_another(client)
    body = {"query": "hi", "conversation_id": old["conversation_id"]}
    assert client.post("/web/chat-messages", json=body).status_code == 409
    assert kept(client) == []


def test_a_visitor_comes_back_to_an_answer_and_a_stranger_does_not(visit: Open) -> None:
    client = visit()
    stranger = visitor_of(client.application)
    answer = ask(client)
    url = f"/web/chat-messages/{answer.task_id}/events"
    assert error_of(stranger.get(url)) == (404, "task_not_found")
    stop(client, answer.task_id)
    sent = [answer.first, *answer.rest()]
    again = Answer(client.get(url))
    assert [again.first, *again.rest()] == sent


def test_what_is_sent_of_answers_is_kept_where_the_settings_say(
    visit: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def events() -> str:
        return str(visit().application.config["CHATSTOP_EVENTS"])

    assert events().endswith("/instance/events.db")
    backend = f"sqlite:///{tmp_path}/tasks.db"
    monkeypatch.setenv("FLASK_CHATSTOP_BACKEND", backend)
    assert events() == backend
    monkeypatch.setenv("FLASK_CHATSTOP_EVENTS", "memory://")
    assert events() == "memory://"


def test_the_page_is_fenced_in(visit: Open) -> None:
    with visit().application.test_client().get("/") as response:
        html = response.get_data(as_text=True)
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    cookie = response.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie
    assert "demo-key" not in html

"""What the page "From outside a request" shows, done."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from flask_chatstop.testing import wait_until
from tests.support.chat import AUTH, Answer, Source
from tests.support.pages import names_of

CHAT = {"user": "alice", "conversation_id": "c1", "query": "hello"}


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return the names of the page, whose model is silent after two words."""
    names = names_of("from-outside.md")
    source = Source("One ", "two")
    monkeypatch.setattr(names, "ask_the_model", lambda query: source())
    names.answers.clear()
    names.last_task.clear()
    names.source = source
    yield names
    source.go_on.set()


def ask(client: FlaskClient) -> Answer:
    answer = Answer(client.post("/v1/chat-messages", json=CHAT, headers=AUTH))
    assert answer.next()["answer"] == "One "
    return answer


def read(answer: Answer) -> threading.Thread:
    """Read an answer as a browser does, meanwhile."""
    reading = threading.Thread(target=answer.rest, daemon=True)
    reading.start()
    return reading


def test_a_new_message_is_answered_when_the_last_answer_is_saved(page: Any) -> None:
    client = page.app.test_client()
    reading = read(ask(client))
    answer = ask(client)
    assert page.answers[0][:2] == ("c1", "stopped")
    assert page.answers[0][2].startswith("One ")
    answer.leave()
    reading.join(30)


def test_nothing_is_saved_into_a_deleted_conversation(page: Any) -> None:
    client = page.app.test_client()
    reading = read(ask(client))
    url = "/v1/conversations/c1?user=alice"
    assert client.delete(url, headers=AUTH).status_code == 200
    reading.join(30)
    assert page.answers == []


def test_an_answer_over_a_websocket_is_stopped_by_its_user_alone(page: Any) -> None:
    def connect(user: str) -> Any:
        browser = page.app.test_client()
        with browser.session_transaction() as session:
            session["user"] = user
        return page.socketio.test_client(page.app, flask_test_client=browser)

    received: list[Any] = []

    def has_received(name: str, *values: object) -> bool:
        received.extend((each["name"], *each["args"]) for each in alice.get_received())
        return (name, *values) in received

    alice, eve = connect("alice"), connect("eve")
    task_id = alice.emit("ask", "hello", callback=True)
    wait_until(lambda: has_received("chunk", "two"))
    assert eve.emit("stop", task_id, callback=True) == "missing"
    assert alice.emit("stop", task_id, callback=True) == "stopping"
    wait_until(lambda: has_received("end", "stopped"))
    alice.emit("ask", "hello", callback=True)
    alice.disconnect()
    with page.app.app_context():
        wait_until(lambda: page.chatstop.tasks(user="alice", app="web") == [])


@pytest.mark.parametrize("job", ["answer_job", "summary_job"])
def test_the_job_of_a_queue_is_stopped_by_its_user(page: Any, job: str) -> None:
    working = threading.Thread(target=getattr(page, job), args=[job, "alice", "hello"])
    working.start()
    assert page.source.is_silent.wait(30)
    client = page.app.test_client()
    stop, body = f"/v1/chat-messages/{job}/stop", {"user": "alice"}
    assert client.post(stop, json=body, headers=AUTH).status_code == 200
    if job == "answer_job":
        working.join(30)
        assert [answer[:2] for answer in page.answers] == [(job, "stopped")]
    page.source.go_on.set()
    working.join(30)
    ended = client.post(f"{stop}?wait=10", json=body, headers=AUTH)
    assert ended.headers["Chatstop-Outcome"] == "stopped"


def test_an_administrator_lists_and_stops_the_chats_of_others(page: Any) -> None:
    client, admin = page.app.test_client(), page.app.test_client()
    for url in ("/admin/chats/stop", "/admin/block", "/admin/stop-everything"):
        assert client.post(url).status_code == 403
    assert client.get("/admin/chats").status_code == 403
    with admin.session_transaction() as session:
        session["is_admin"] = True
    for url, more in [
        ("/admin/chats/stop", {}),
        ("/admin/block", {"user": "alice"}),
        ("/admin/stop-everything", {}),
    ]:
        page.last_task.clear()
        answer = ask(client)
        [chat] = [
            chat
            for chat in admin.get("/admin/chats").get_json()
            if chat["task_id"] == answer.task_id
        ]
        assert (chat["user"], chat["app"]) == ("alice", "my-app")
        assert admin.post("/admin/block").status_code == 400
        admin.post(url, data={**chat, **more})
        assert answer.rest()[-1]["metadata"]["end_reason"] == "stopped"

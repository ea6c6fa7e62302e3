"""The stop route on the wire: the order of its checks, its answers, bad input."""

import io
import json
import threading
from typing import Any

import pytest
from flask import Flask, abort
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.datastructures import Headers
from werkzeug.test import TestResponse

from flask_chatstop import (
    BackendError,
    MemoryBackend,
    Owner,
    StopOutcome,
    stop_requested,
)
from flask_chatstop.testing import wait_until
from tests.support.apps import new_task
from tests.support.chat import AUTH, OTHER_AUTH, Chat, Source
from tests.support.faulty_worker import FaultyBackend
from tests.support.route import error


@pytest.fixture
def chat() -> Chat:
    return Chat()


def post(chat: Chat, **request: Any) -> TestResponse:
    request.setdefault("headers", AUTH)
    return chat.client.post("/v1/chat-messages/some-id/stop", **request)


def test_a_stop_is_answered_with_success_and_the_truth(chat: Chat) -> None:
    task = new_task(chat)
    for _ in range(2):
        response = chat.stop(task.id)
        assert (response.status_code, response.json) == (200, {"result": "success"})
        assert response.mimetype == "application/json"
        assert response.headers["Chatstop-Outcome"] == "stopping"
    assert task.stopped
    task.end("stopped")
    wait_until(lambda: chat.stop(task.id).headers["Chatstop-Outcome"] == "stopped")
    assert chat.stop(task.id).json == {"result": "success"}


def test_a_stop_that_comes_late_is_no_error(chat: Chat) -> None:
    task = new_task(chat)
    task.end("finished")
    wait_until(lambda: chat.stop(task.id).headers["Chatstop-Outcome"] == "ended")
    assert chat.stop(task.id).json == {"result": "success"}


def outcome(response: TestResponse) -> str | None:
    return response.headers.get("Chatstop-Outcome")


def test_a_stop_after_the_end_says_so_at_once(chat: Chat) -> None:
    for _ in range(24):
        answer = chat.ask()
        assert answer.rest()[-1]["event"] == "message_end"
        assert outcome(chat.stop(answer.task_id)) == "ended"
        assert outcome(chat.stop(answer.task_id, user="bob")) == "missing"


def test_a_second_stop_after_the_end_says_that_it_was_stopped_at_once() -> None:
    for _ in range(24):
        source = Source("One ")
        chat = Chat(source)
        answer = chat.ask()
        assert outcome(chat.stop(answer.task_id)) == "stopping"
        assert answer.rest()[-1]["event"] == "message_end"
        assert outcome(chat.stop(answer.task_id)) == "stopped"
        source.go_on.set()


def test_an_end_that_the_store_has_not_heard_of_is_told_in_its_own_process() -> None:
    store = FaultyBackend()
    chats = [Chat(config={"CHATSTOP_BACKEND": store}) for _ in range(2)]
    answer = chats[0].ask()
    store.is_cut = True
    answer.rest()
    assert outcome(chats[0].stop(answer.task_id)) == "ended"
    assert error(chats[1].stop(answer.task_id)) == (503, "backend_unavailable")
    store.is_cut = False
    wait_until(lambda: outcome(chats[1].stop(answer.task_id)) == "ended")
    assert outcome(chats[0].stop(answer.task_id)) == "ended"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong-key",
        "Bearer demo-ke",
        "Bearer demo-key2",
        "Bearer DEMO-KEY",
        "Bearer d\xe9mo-key",
        "Bearer \xff\xfe",
        "Bearer a=b",
        "Bearer demo-key, other-key",
        "Basic ZGVtby1rZXk6",
        "Basic d\xe9mo-key",
        "Basic ====",
        "Digest demo-key",
        "demo-key",
        "Bearer " + "x" * 10_000,
    ],
)
def test_without_a_valid_key_nothing_else_is_looked_at(
    chat: Chat, header: str | None
) -> None:
    headers = {} if header is None else {"Authorization": header}
    for body in ({"json": {"user": "alice"}}, {"data": "no json"}):
        response = post(chat, headers=headers, **body)
        assert error(response) == (401, "unauthorized")
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="chatstop"'
        assert "Chatstop-Outcome" not in response.headers


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_the_scheme_is_compared_without_case(chat: Chat, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} demo-key"}
    response = post(chat, headers=headers, json={"user": "alice"})
    assert error(response) == (404, "task_not_found")


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    ],
)
def test_a_body_of_another_type_is_refused(
    chat: Chat, content_type: str | None
) -> None:
    response = post(chat, data='{"user": "alice"}', content_type=content_type)
    assert error(response) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"user",
        b'{"user": "alice"',
        b'{"user": "alice"} and more',
        b'{"user": NaN}',
        b'{"user": "\xff"}',
        '{"user": "alice"}'.encode("utf-16"),
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b"1" * 10_000,
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_body_that_is_no_json_is_refused(chat: Chat, body: bytes) -> None:
    response = post(chat, data=body, content_type="application/json")
    assert error(response) == (400, "bad_request")


@pytest.mark.parametrize(
    "body",
    [
        [],
        ["user"],
        "alice",
        7,
        None,
        {},
        {"user": None},
        {"user": ""},
        {"user": 7},
        {"user": True},
        {"user": ["alice"]},
        {"user": {"id": "alice"}},
        {"user": "x" * 256},
        {"user": "a\0b"},
        {"user": "\ud800"},
        {"User": "alice"},
    ],
    ids=repr,
)
def test_a_body_without_a_proper_user_is_refused(chat: Chat, body: object) -> None:
    response = post(chat, data=json.dumps(body), content_type="application/json")
    assert error(response) == (400, "invalid_param")


def test_a_user_of_255_characters_is_a_user(chat: Chat) -> None:
    user = "ü" * 255
    answer = Chat(Source("x"))
    running = answer.ask(user=user)
    assert answer.stop(running.task_id, user).status_code == 200


@pytest.mark.parametrize("content_length", [True, False])
def test_a_body_too_large_is_refused_whatever_the_limit_of_the_app(
    content_length: bool,
) -> None:
    body = json.dumps({"user": "alice", "padding": "x" * 70_000}).encode()
    for limit in (None, 100, 10_000_000):
        chat = Chat(config={"MAX_CONTENT_LENGTH": limit})
        extra: dict[str, Any] = {}
        if not content_length:
            extra = {
                "environ_overrides": {"wsgi.input_terminated": True},
                "headers": {**AUTH, "Transfer-Encoding": "chunked"},
            }
        response = post(chat, data=body, content_type="application/json", **extra)
        assert error(response) == (413, "request_entity_too_large")
        small = b'{"user": "alice", "padding": "%s"}' % (b"x" * 60_000)
        response = post(chat, data=small, content_type="application/json")
        assert error(response) == (404, "task_not_found")


class MalformedChunks(io.RawIOBase):
    """A body that its server cannot read, which it says with an error of its own."""

    def read(self, size: int = -1) -> bytes:
        raise Exception("invalid chunk size")


def test_a_body_that_its_server_cannot_read_is_the_clients_fault(chat: Chat) -> None:
    task = new_task(chat)
    response = chat.client.post(
        f"/v1/chat-messages/{task.id}/stop",
        headers=AUTH,
        content_type="application/json",
        environ_overrides={
            "wsgi.input": MalformedChunks(),
            "wsgi.input_terminated": True,
        },
    )
    assert error(response) == (400, "bad_request")
    assert not task.stopped


def test_unknown_and_foreign_tasks_are_answered_alike(chat: Chat) -> None:
    task = new_task(chat)
    answers = [
        chat.stop("unknown"),
        chat.stop(task.id, user="bob"),
        chat.stop(task.id, user="Alice"),
        chat.stop(task.id, user="alice "),
        chat.stop(task.id, auth=OTHER_AUTH),
        chat.stop("x" * 256),
        chat.stop("%00"),
    ]
    assert error(answers[0]) == (404, "task_not_found")
    assert {answer.data for answer in answers} == {answers[0].data}
    assert {str(answer.headers) for answer in answers} == {str(answers[0].headers)}
    assert answers[0].headers["Chatstop-Outcome"] == "missing"
    assert not task.stopped


def test_a_missing_task_is_a_success_where_it_is_configured() -> None:
    chat = Chat(config={"CHATSTOP_MISSING_OK": True})
    task = new_task(chat)
    for response in (chat.stop("unknown"), chat.stop(task.id, user="bob")):
        assert (response.status_code, response.json) == (200, {"result": "success"})
        assert response.headers["Chatstop-Outcome"] == "missing"
    assert not task.stopped


class UnreachableBackend(MemoryBackend):
    """A store whose network can be cut."""

    is_cut = False

    def stop(self, task_id: str, owner: Owner) -> StopOutcome:
        if self.is_cut:
            raise BackendError("no route to redis://:secret@host")
        return super().stop(task_id, owner)


def test_a_store_that_is_away_is_never_a_success() -> None:
    backend = UnreachableBackend()
    here, there = (Chat(config={"CHATSTOP_BACKEND": backend}) for _ in range(2))
    task = new_task(here)
    backend.is_cut = True
    response = there.stop(task.id)
    assert error(response) == (503, "backend_unavailable")
    assert int(response.headers["Retry-After"]) > 0
    assert "secret" not in response.text
    assert "Chatstop-Outcome" not in response.headers
    assert not task.stopped


def test_a_task_of_this_very_process_is_stopped_without_the_store() -> None:
    backend = UnreachableBackend()
    chat = Chat(config={"CHATSTOP_BACKEND": backend})
    task = new_task(chat)
    backend.is_cut = True
    assert chat.stop(task.id).headers["Chatstop-Outcome"] == "stopping"
    assert task.stopped


@pytest.mark.parametrize(
    "method", ["GET", "PUT", "PATCH", "DELETE", "TRACE", "PURGE", "X-STOP"]
)
def test_another_method_is_refused_as_json(chat: Chat, method: str) -> None:
    response = chat.client.open("/v1/chat-messages/some-id/stop", method=method)
    assert error(response) == (405, "method_not_allowed")
    assert response.headers["Allow"] == "POST, OPTIONS"


def test_head_and_options_are_answered_as_http_wants_it(chat: Chat) -> None:
    url = "/v1/chat-messages/some-id/stop"
    head, options = chat.client.head(url), chat.client.options(url)
    assert (head.status_code, head.data) == (405, b"")
    assert (options.status_code, options.headers["Allow"]) == (200, "POST, OPTIONS")


def test_a_bug_is_answered_as_json_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(MemoryBackend):
        def stop(self, task_id: str, owner: Owner) -> StopOutcome:
            raise ZeroDivisionError("a bug")

    chat = Chat(config={"CHATSTOP_BACKEND": Broken()})
    response = chat.stop("some-id")
    assert error(response) == (500, "internal_server_error")
    assert "a bug" in caplog.text and "a bug" not in response.text


def test_an_error_from_before_the_view_is_json_as_well(chat: Chat) -> None:
    chat.app.before_request(lambda: abort(429))
    assert error(chat.stop("some-id")) == (429, "too_many_requests")


def test_the_error_pages_of_the_app_are_not_ours() -> None:
    chat = Chat()
    chat.app.register_error_handler(404, lambda error: ("<h1>lost</h1>", 404))
    chat.app.register_error_handler(500, lambda error: ("<h1>broken</h1>", 500))
    assert error(chat.stop("some-id")) == (404, "task_not_found")
    assert chat.client.get("/elsewhere").text == "<h1>lost</h1>"


def test_the_signal_tells_who_asked_and_what_was_found(chat: Chat) -> None:
    heard: list[tuple[str, Owner, StopOutcome]] = []

    def receiver(
        sender: Flask, task_id: str, owner: Owner, outcome: StopOutcome
    ) -> None:
        assert sender is chat.app
        heard.append((task_id, owner, outcome))

    task = new_task(chat)
    alice = Owner("demo", "service-api", "alice")
    with stop_requested.connected_to(receiver):
        chat.stop(task.id)
        chat.stop("unknown")
        chat.stop("unknown", auth={})
    assert heard == [
        (task.id, alice, StopOutcome.STOPPING),
        ("unknown", alice, StopOutcome.MISSING),
    ]


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    path=st.text(),
    body=st.one_of(st.binary(), st.text().map(str.encode), st.none()),
    headers=st.dictionaries(
        st.sampled_from(["Authorization", "Content-Type", "Content-Length", "Accept"]),
        st.one_of(
            st.sampled_from(["Bearer demo-key", "application/json", "Bearer", "-1"]),
            st.text(st.characters(max_codepoint=255, exclude_characters="\r\n")),
        ),
    ),
    method=st.sampled_from(["POST", "GET", "PUT", "OPTIONS"]),
)
def test_no_input_is_an_error_of_ours(
    chat: Chat, path: str, body: bytes | None, headers: dict[str, str], method: str
) -> None:
    task = new_task(chat)
    response = chat.client.open(
        f"/v1/chat-messages/{path}/stop",
        method=method,
        data=body,
        headers=Headers(list(headers.items())),
    )
    assert response.status_code < 500
    assert not task.stopped


def test_a_hundred_stops_at_once_all_succeed(chat: Chat) -> None:
    task = new_task(chat)
    outcomes: list[str] = []
    barrier = threading.Barrier(100)

    def stop() -> None:
        client = chat.app.test_client()
        barrier.wait()
        response = client.post(
            f"/v1/chat-messages/{task.id}/stop", json={"user": "alice"}, headers=AUTH
        )
        outcomes.append(response.headers["Chatstop-Outcome"])

    threads = [threading.Thread(target=stop) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == ["stopping"] * 100

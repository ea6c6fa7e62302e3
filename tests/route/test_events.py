"""The route by which a client comes back to an answer: who may, from where, and how."""

from typing import Any

import pytest

from flask_chatstop import BackendError, ChatStop
from flask_chatstop.events import MemoryEventLog, Page
from tests.support.apps import make_app
from tests.support.chat import AUTH, OTHER_AUTH
from tests.support.follow import FollowedApp, Gate
from tests.support.route import FAMILY, Door, error


@pytest.fixture(scope="module")
def app() -> FollowedApp:
    return FollowedApp()


@pytest.fixture(scope="module")
def task_id(app: FollowedApp) -> str:
    first = app.ask()
    first.rest()
    return first.task_id


@pytest.mark.parametrize("key", ["", "Bearer wrong", "Basic ZGVtby1rZXk6"])
def test_without_a_valid_key_nothing_else_is_looked_at(
    app: FollowedApp, task_id: str, key: str
) -> None:
    for known in (task_id, "unknown"):
        follower = app.follow(known, "bad", headers={"Authorization": key}, user=None)
        assert error(follower.response) == (401, "unauthorized")
        assert follower.response.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_answer_of_somebody_else_is_like_one_that_is_not_there(
    app: FollowedApp, task_id: str
) -> None:
    strangers = [
        app.follow("unknown"),
        app.follow(task_id, user="bob"),
        app.follow(task_id, user="Alice"),
        app.follow(task_id, user="alice "),
        app.follow(task_id, headers=OTHER_AUTH),
        app.follow(task_id + "x"),
        app.follow("x" * 300),
        app.follow(task_id, "end", user="bob"),
        app.follow(task_id, method="HEAD", user="bob"),
    ]
    for stranger in strangers:
        assert stranger.status == 404
        assert "Chatstop-Task-Id" not in stranger.response.headers
    assert error(strangers[0].response) == (404, "task_not_found")
    assert len({stranger.response.data for stranger in strangers[:-1]}) == 1
    headers = [dict(stranger.response.headers) for stranger in strangers]
    assert all(each == headers[0] for each in headers)


@pytest.mark.parametrize("user", [None, "", "x" * 256, "a\0b"])
def test_a_user_must_be_named(app: FollowedApp, task_id: str, user: str | None) -> None:
    assert error(app.follow(task_id, user=user).response) == (400, "invalid_param")


@pytest.mark.parametrize(
    "position",
    ["-1", "1.5", "x", "\uff11", "1" * 10, "end ", "END", "0x1", "1;2", "%31"],
)
def test_a_malformed_position_is_refused(
    app: FollowedApp, task_id: str, position: str
) -> None:
    if position.isascii():
        follower = app.follow(task_id, position)
        assert error(follower.response) == (400, "invalid_param")
    query = {"user": "alice", "after": position}
    url = f"/v1/chat-messages/{task_id}/events"
    response = app.client.get(url, query_string=query, headers=AUTH)
    assert error(response) == (400, "invalid_param")


def test_the_header_of_a_browser_that_reconnects_counts_more_than_its_url(
    app: FollowedApp, task_id: str
) -> None:
    url = f"/v1/chat-messages/{task_id}/events?user=alice&after=1"
    parts = []
    for headers in ({}, {"Last-Event-ID": ""}, {"Last-Event-ID": "3"}):
        parts.append(app.client.get(url, headers={**AUTH, **headers}).data)
    assert parts[0] == parts[1]
    assert parts[0].startswith(b"id: 2\n")
    assert parts[2].startswith(b"event: end\nid: 4\n")


def test_no_cache_keeps_what_is_no_answer(app: FollowedApp, task_id: str) -> None:
    followers = [
        app.follow(task_id, "end"),
        app.follow(task_id, "x"),
        app.follow("unknown"),
        app.follow(task_id, headers={}),
    ]
    assert [x.status for x in followers] == [204, 400, 404, 401]
    for follower in followers:
        assert follower.response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"])
def test_other_methods_are_told_what_is_allowed(app: FollowedApp, method: str) -> None:
    follower = app.follow("some-id", method=method, headers={})
    assert error(follower.response) == (405, "method_not_allowed")
    assert follower.response.headers["Allow"] == "GET, HEAD, OPTIONS"


def test_options_are_answered_without_a_key(app: FollowedApp) -> None:
    follower = app.follow("some-id", method="OPTIONS", headers={})
    assert (follower.status, follower.response.data) == (200, b"")
    assert follower.response.headers["Allow"] == "GET, HEAD, OPTIONS"


def test_head_is_answered_at_once_with_the_headers_of_the_answer() -> None:
    app = FollowedApp(pieces=Gate("One "))
    first = app.ask()
    head = app.follow(first.task_id, method="HEAD")
    assert (head.status, head.response.data) == (200, b"")
    assert dict(head.response.headers) == dict(first.response.headers)
    first.leave()


def test_there_is_no_route_unless_the_app_turns_it_on() -> None:
    for config in ({"CHATSTOP_EVENTS": None}, {"CHATSTOP_ENABLED": False}):
        app = FollowedApp(config)
        first = app.ask()
        assert b"id: 1\n" in first.rest()
        rules = [rule.rule for rule in app.app.url_map.iter_rules()]
        assert not any(rule.endswith("/events") for rule in rules)
        assert app.follow(first.task_id).status == 404


def test_every_route_of_the_family_has_one() -> None:
    app = make_app(ChatStop(routes=FAMILY), CHATSTOP_EVENTS="memory://")
    for route in FAMILY:
        url = f"/v1/{route}/some-id/events"
        assert app.test_client().get(url).status_code == 401


def test_the_user_of_a_session_follows_their_own_answers() -> None:
    user: list[Any] = ["alice"]
    door = Door()
    chatstop = ChatStop(auth=door, user_loader=lambda: user[0])
    app = FollowedApp(chatstop=chatstop)
    first = app.ask()
    sent = first.rest()
    assert app.follow(first.task_id, user=None).rest() == sent
    assert app.follow(first.task_id, user="alice").rest() == sent
    assert app.follow(first.task_id, user="bob").status == 404
    user[0] = "bob"
    assert app.follow(first.task_id, user=None).status == 404
    assert app.follow(first.task_id, user="alice").status == 404
    user[0] = None
    response = app.follow(first.task_id, user="alice").response
    assert error(response) == (403, "forbidden")
    door.is_open = False
    assert error(app.follow(first.task_id).response) == (401, "unauthorized")


def test_two_blueprints_of_one_app_do_not_find_each_others_answers() -> None:
    app = FollowedApp()
    other = ChatStop("other", source="web-app")
    app.app.register_blueprint(other, url_prefix="/web")
    first = app.ask()
    first.rest()
    url = f"/web/chat-messages/{first.task_id}/events?user=alice"
    assert app.client.get(url, headers=AUTH).status_code == 404


def test_an_answer_is_gone_after_the_retention() -> None:
    app = FollowedApp({"CHATSTOP_RETENTION": 0.2})
    first = app.ask()
    first.rest()
    while app.follow(first.task_id, "end").status == 204:
        pass
    assert error(app.follow(first.task_id).response) == (404, "task_not_found")


class AwayLog(MemoryEventLog):
    def read(self, log_id: str, after: int) -> Page | None:
        raise BackendError("the log is away")


def test_a_log_that_is_away_is_told_as_such() -> None:
    app = FollowedApp({"CHATSTOP_EVENTS": AwayLog()})
    response = app.follow(app.ask().task_id).response
    assert error(response) == (503, "backend_unavailable")
    assert response.headers["Retry-After"] == "1"


def test_a_memory_that_other_processes_do_not_see_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = make_app(CHATSTOP_EVENTS="memory://")
    for _ in range(2):
        app.test_client().get(
            "/v1/chat-messages/some-id/events?user=alice",
            headers=AUTH,
            environ_overrides={"wsgi.multiprocess": True},
        )
    # What an earlier test has left may log another error at any time.
    errors = [x.message for x in caplog.records if x.levelname == "ERROR"]
    messages = [message for message in errors if "CHATSTOP_" in message]
    assert ["CHATSTOP_EVENTS" in message for message in messages] == [False, True]

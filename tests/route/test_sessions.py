"""Authenticators of an app's own pages: Flask's session, Flask-Login, one user."""

import sys
import uuid
from typing import Any

import flask_login
import pytest
from flask import Flask, redirect, session
from flask.testing import FlaskClient
from werkzeug.test import TestResponse, run_wsgi_app

from flask_chatstop import (
    Authenticator,
    ChatStop,
    ConfigurationError,
    FlaskLoginAuth,
    Owner,
    SessionAuth,
    SingleUserAuth,
)
from tests.support.chat import AUTH
from tests.support.route import error

STOP = "/web/chat-messages/{}/stop"
FOREIGN = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}


class Site:
    """An app whose users log in by a cookie, with a view that begins tasks."""

    def __init__(self, auth: Authenticator, **options: Any) -> None:
        self.app = Flask("shop")
        self.app.config["SECRET_KEY"] = "any"
        self.tasks: list[Any] = []
        self.chatstop = ChatStop("web", auth=auth, **options)
        self.app.add_url_rule("/login/<who>", view_func=self.log_in)
        guarded = self.chatstop.login_required(self.begin)
        self.app.add_url_rule("/chat", "chat", guarded, methods=["GET", "POST"])
        self.app.add_url_rule("/open", "open", self.begin, methods=["POST"])
        self.app.register_blueprint(self.chatstop, url_prefix="/web")

    def log_in(self, who: str) -> str:
        session["user_id"] = int(who) if who.isdigit() else who
        return ""

    def begin(self) -> str:
        self.tasks.append(self.chatstop.start())
        return str(self.tasks[-1].id)

    def visitor(self, who: str | None = None) -> FlaskClient:
        client = self.app.test_client()
        if who is not None:
            client.get(f"/login/{who}")
        return client


class BareClient(FlaskClient):
    """Sends any host: for its cookies, that of Werkzeug 3.1.0 would have to read it."""

    def run_wsgi_app(self, environ: Any, buffered: bool = False) -> Any:
        return run_wsgi_app(self.application, environ, buffered=buffered)


class User(flask_login.UserMixin):  # type: ignore[misc]
    """A user who can be locked out."""

    is_active = True


class SiteWithFlaskLogin(Site):
    """The same app with Flask-Login, which sends strangers to its login page."""

    def __init__(self, **options: Any) -> None:
        super().__init__(FlaskLoginAuth(), **options)
        self.locked: set[str] = set()
        manager = flask_login.LoginManager(self.app)
        manager.login_view = "login"
        manager.unauthorized_handler(lambda: redirect("/login"))
        manager.user_loader(self.load)

    def load(self, user_id: str) -> flask_login.UserMixin:
        user = User()
        user.is_active = user_id not in self.locked
        user.id = int(user_id)
        return user

    def log_in(self, who: str) -> str:
        flask_login.login_user(self.load(who))
        return ""


@pytest.fixture(params=["session", "flask-login"])
def site(request: pytest.FixtureRequest) -> Site:
    if request.param == "session":
        return Site(SessionAuth("user_id"))
    return SiteWithFlaskLogin()


def begin(client: FlaskClient) -> str:
    return client.post("/chat").text


def stop(client: FlaskClient, task_id: str, **options: Any) -> TestResponse:
    return client.post(STOP.format(task_id), **{"json": {}} | options)


def test_a_user_who_is_logged_in_stops_their_answer_and_names_no_user(
    site: Site,
) -> None:
    client = site.visitor("7")
    task_id = begin(client)
    assert site.tasks[0].record.owner == Owner("shop", "web-app", "7")
    assert stop(client, task_id).headers["Chatstop-Outcome"] == "stopping"
    assert site.tasks[0].stopped


def test_another_user_finds_nothing_to_stop(site: Site) -> None:
    task_id = begin(site.visitor("7"))
    response = stop(site.visitor("8"), task_id, json={"user": "7"})
    assert error(response) == (404, "task_not_found")
    assert not site.tasks[0].stopped


@pytest.mark.parametrize("path", ["/chat", "/open", STOP.format("some-id")])
def test_nobody_is_answered_401_as_json_and_sent_nowhere(site: Site, path: str) -> None:
    response = site.visitor().post(path, json={"user": "7"}, headers=AUTH)
    assert error(response) == (401, "unauthorized")
    assert "Location" not in response.headers
    assert "WWW-Authenticate" not in response.headers
    assert site.tasks == []


def test_a_view_without_the_guard_begins_a_task_of_who_is_logged_in(site: Site) -> None:
    site.visitor("7").post("/open")
    assert site.tasks[0].record.owner.user == "7"


def test_a_page_of_another_site_neither_begins_nor_stops_an_answer(site: Site) -> None:
    client = site.visitor("7")
    task_id = begin(client)
    for method in (client.post, client.get):
        assert error(method("/chat", headers=FOREIGN)) == (403, "forbidden")
    assert error(stop(client, task_id, headers=FOREIGN)) == (403, "forbidden")
    assert [task.stopped for task in site.tasks] == [False]


def test_its_openapi_lets_the_user_be_left_out(site: Site) -> None:
    with site.app.test_request_context():
        [path] = site.chatstop.openapi()["paths"].values()
    body = path["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "required" not in body
    assert "headers" not in path["post"]["responses"]["401"]


def test_an_async_view_may_stand_behind_it() -> None:
    site = Site(SessionAuth("user_id"))

    async def view() -> str:
        return site.begin()

    guarded = site.chatstop.login_required(view)
    site.app.add_url_rule("/async", view_func=guarded)
    assert site.visitor("7").get("/async").text == site.tasks[0].id


@pytest.mark.parametrize("nobody", [None, ""])
def test_a_session_that_has_lost_its_user_is_nobodys(nobody: str | None) -> None:
    client = Site(SessionAuth("user_id")).visitor("7")
    with client.session_transaction() as cookie:
        cookie["user_id"] = nobody
    assert error(stop(client, "some-id")) == (401, "unauthorized")


def test_the_user_of_a_session_may_come_from_a_function() -> None:
    user = uuid.uuid4()
    site = Site(SessionAuth(lambda: user))
    begin(site.visitor())
    assert site.tasks[0].record.owner.user == str(user)


def test_the_user_of_a_session_may_be_number_zero() -> None:
    site = Site(SessionAuth("user_id"))
    begin(site.visitor("0"))
    assert site.tasks[0].record.owner.user == "0"


def test_what_is_given_to_the_blueprint_goes_before_what_its_authenticator_has() -> (
    None
):
    auth = SessionAuth("user_id", app="chat")
    site = Site(auth, source="desk", user_loader=lambda: "alice")
    begin(site.visitor("7"))
    assert site.tasks[0].record.owner == Owner("chat", "desk", "alice")


def test_the_api_and_the_pages_of_an_app_cannot_stop_each_others_tasks() -> None:
    site = Site(SessionAuth("user_id", app="my-app"))
    api = ChatStop()
    other = Flask("other")
    other.config.update(SECRET_KEY="any", CHATSTOP_API_KEYS={"demo-key": "my-app"})
    other.add_url_rule("/login/<who>", view_func=site.log_in)
    other.add_url_rule("/chat", "chat", site.begin, methods=["POST"])
    other.register_blueprint(site.chatstop, url_prefix="/web")
    other.register_blueprint(api, url_prefix="/v1")
    client = other.test_client()
    client.get("/login/7")
    task_id = begin(client)
    url = f"/v1/chat-messages/{task_id}/stop"
    response = client.post(url, json={"user": "7"}, headers=AUTH)
    assert error(response) == (404, "task_not_found")
    assert stop(client, task_id, headers=AUTH).status_code == 200


def test_a_user_of_flask_login_may_be_named_by_a_uuid() -> None:
    name = uuid.uuid4()

    class NamedUser(User):
        def get_id(self) -> uuid.UUID:
            return name

    class NamingSite(SiteWithFlaskLogin):
        def load(self, user_id: object) -> flask_login.UserMixin:
            return NamedUser()

    site = NamingSite()
    client = site.visitor("7")
    assert stop(client, begin(client)).status_code == 200
    assert site.tasks[0].record.owner.user == str(name)


def test_a_user_of_flask_login_who_was_locked_out_meanwhile_is_nobody() -> None:
    site = SiteWithFlaskLogin()
    client = site.visitor("7")
    task_id = begin(client)
    site.locked.add("7")
    assert error(stop(client, task_id)) == (401, "unauthorized")
    assert not site.tasks[0].stopped


def test_flask_login_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "flask_login", None)
    with pytest.raises(ConfigurationError, match="pip install flask-login"):
        FlaskLoginAuth()


def test_flask_login_that_is_not_on_the_app_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = Site(FlaskLoginAuth()).visitor()
    assert error(stop(client, "some-id")) == (500, "internal_server_error")
    assert "LoginManager().init_app(app)" in caplog.text


def test_a_session_needs_a_key_or_a_function() -> None:
    with pytest.raises(ConfigurationError, match=r'SessionAuth\("user_id"\)'):
        SessionAuth(7)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", 7, "x" * 256])
def test_names_of_an_app_and_of_a_user_that_no_store_takes_are_refused(
    name: Any,
) -> None:
    with pytest.raises(ConfigurationError, match="app is"):
        SessionAuth("user_id", app=name)
    with pytest.raises(ConfigurationError, match="user is"):
        SingleUserAuth(name)


@pytest.mark.parametrize("host", ["localhost:5000", "chat.localhost", "[::1]:5000"])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_a_single_user_needs_no_login_on_their_own_computer(
    host: str, address: str
) -> None:
    site = Site(SingleUserAuth())
    client = site.visitor()
    here: Any = {"base_url": f"http://{host}", "environ_base": {"REMOTE_ADDR": address}}
    task_id = client.post("/chat", **here).text
    assert site.tasks[0].record.owner == Owner("shop", "web-app", "local-user")
    assert stop(client, task_id, **here).status_code == 200


ELSEWHERE: list[dict[str, Any]] = [
    {"environ_base": {"REMOTE_ADDR": "192.0.2.7"}},
    {"environ_base": {"REMOTE_ADDR": ""}},
    {"base_url": "http://rebound.example:5000"},
    {"base_url": "http://localhost.example"},
    {"environ_overrides": {"HTTP_HOST": "["}},
    {"headers": {"X-Forwarded-For": "192.0.2.7"}},
    {"headers": {"X-Forwarded-Host": "chat.example"}},
    {"headers": {"X-Real-Ip": "192.0.2.7"}},
    {"headers": {"X-Forwarded-Proto": "https"}},
    {"headers": {"Forwarded": "for=192.0.2.7"}},
    {"headers": {"Via": "1.1 proxy"}},
]


@pytest.mark.parametrize("request_of", ELSEWHERE)
def test_a_single_user_is_not_whoever_sends_a_request_from_elsewhere(
    request_of: dict[str, Any],
) -> None:
    site = Site(SingleUserAuth())
    client = BareClient(site.app)
    assert error(client.post("/chat", **request_of)) == (403, "forbidden")
    assert error(client.post("/open", **request_of)) == (401, "unauthorized")
    assert error(stop(client, "some-id", **request_of)) == (403, "forbidden")
    assert site.tasks == []


@pytest.mark.parametrize("request_of", ELSEWHERE)
def test_a_single_user_may_be_guarded_by_something_else(
    request_of: dict[str, Any],
) -> None:
    site = Site(SingleUserAuth("me", local_only=False))
    client = BareClient(site.app)
    assert client.post("/chat", **request_of).status_code == 200
    assert site.tasks[0].record.owner.user == "me"


@pytest.mark.parametrize("local_only", [True, False])
def test_a_page_of_another_site_is_not_the_single_user(local_only: bool) -> None:
    site = Site(SingleUserAuth(local_only=local_only))
    assert error(site.visitor().post("/chat", headers=FOREIGN)) == (403, "forbidden")

"""A chat with Flask-Login, Flask-SQLAlchemy and an EventSource, before and after."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask_migrate
import pytest
from flask import Flask
from flask.testing import FlaskClient
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tests.support.paths import DOCS, ROOT
from tests.support.provider import TOKENS, Provider, provider
from tests.support.servers.gunicorn import Server, gunicorn

APP = ROOT / "tests" / "apps" / "flask_chat"
STOP = "**/chat-messages/*/stop"
_MARKED = re.compile(r"^.*(#|//|\{#) stop( #\})?\n", re.MULTILINE)


def sources() -> Iterator[Path]:
    """Return the files of the app that a person has written."""
    for path in sorted(APP.rglob("*.*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def migrated(package: str, database: Path) -> Flask:
    """Make the app, with an empty database of two users."""
    module: Any = importlib.import_module(package)
    app: Flask = module.create_app({"SQLALCHEMY_DATABASE_URI": f"sqlite:///{database}"})
    models: Any = importlib.import_module(f"{package}.models")
    with app.app_context():
        flask_migrate.upgrade()
        for name in ("alice", "eve"):
            user = models.User(username=name)
            user.set_password(f"{name}'s password")
            models.db.session.add(user)
        models.db.session.commit()
        models.db.engine.dispose()
    return app


def saved(app: Flask) -> list[tuple[str, str]]:
    """Return the messages in the database."""
    db = app.extensions["sqlalchemy"]
    query = db.text("SELECT role, content FROM message ORDER BY id")
    with app.app_context(), db.engine.connect() as connection:
        rows = [(row.role, row.content) for row in connection.execute(query)]
        db.engine.dispose()
    return rows


@pytest.fixture
def before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flask:
    """Make the app as it was before the stop was added."""
    for path in sources():
        copy = tmp_path / "chat_before" / path.relative_to(APP)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(_MARKED.sub("", path.read_text()))
        assert "chatstop" not in copy.read_text()
    monkeypatch.syspath_prepend(tmp_path)
    return migrated("chat_before", tmp_path / "chat.db")


def logged_in(app: Flask) -> FlaskClient:
    client = app.test_client()
    form = {"username": "alice", "password": "alice's password"}
    assert client.post("/login", data=form).location == "/"
    return client


def test_it_was_a_whole_app_before_the_stop_was_added(
    before: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = logged_in(before)
    chat = client.post("/conversations").location
    assert "Stop" not in client.get(chat).text
    with provider(then="end") as model:
        monkeypatch.setenv("OPENAI_BASE_URL", model.url)
        monkeypatch.setenv("OPENAI_API_KEY", "any")
        sent = client.post(f"{chat}/messages", data={"message": "Count"})
        assert sent.json is not None
        frames = client.get(sent.json["stream"]).text
    assert frames.count("data: ") == len(TOKENS) + 1
    assert saved(before) == [("user", "Count"), ("assistant", "".join(TOKENS))]


def test_the_page_says_how_many_lines_the_stop_needs() -> None:
    added = sum(len(_MARKED.findall(path.read_text())) for path in sources())
    python = sum(len(_MARKED.findall(path.read_text())) for path in APP.rglob("*.py"))
    page = " ".join((DOCS / "your-app.md").read_text().split())
    assert f"{added} lines were added" in page
    assert f"{python} of them are Python" in page


@pytest.fixture
def model() -> Iterator[Provider]:
    with provider() as server:
        yield server


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return migrated("tests.apps.flask_chat", tmp_path / "chat.db")


@pytest.fixture
def server(app: Flask, model: Provider, tmp_path: Path) -> Iterator[Server]:
    with gunicorn(
        "tests.apps.flask_chat:create_app()",
        tmp_path,
        *("-k", "gthread", "--threads", "8"),
        DATABASE_URL=app.config["SQLALCHEMY_DATABASE_URI"],
        OPENAI_BASE_URL=model.url,
        OPENAI_API_KEY="any",
    ) as server:
        yield server
    assert "Traceback" not in server.log.read_text()


def log_in(context: BrowserContext, url: str, name: str) -> Page:
    page = context.new_page()
    page.goto(url)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(f"{name}'s password")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("button", name="New chat")).to_be_visible()
    return page


def test_a_user_stops_an_answer_that_nobody_else_can_stop(
    browser: Browser, server: Server, app: Flask, model: Provider
) -> None:
    with (
        browser.new_context() as alices,
        browser.new_context() as eves,
        browser.new_context() as nobodys,
    ):
        page = log_in(alices, server.url, "alice")
        page.get_by_role("button", name="New chat").click()
        page.get_by_label("Message").fill("Count")
        page.get_by_role("button", name="Send").click()
        expect(page.locator(".assistant")).to_have_text("".join(TOKENS).strip())
        [call] = model.calls
        assert call.silent.wait(30)

        held: list[Route] = []
        page.route(STOP, lambda route: held.append(route))
        stop = page.get_by_role("button", name="Stop")
        with page.expect_request(STOP) as request:
            stop.click()
        url = request.value.url
        log_in(eves, server.url, "eve")
        assert eves.request.post(url, data={}).status == 404
        refused = nobodys.request.post(url, data={}, max_redirects=0)
        assert (refused.status, refused.json()["code"]) == (401, "unauthorized")
        stream = page.url + "/stream"
        assert nobodys.request.get(stream, max_redirects=0).status == 401
        assert eves.request.get(stream).status == 404
        assert not call.closed.is_set()

        held[0].continue_()
        expect(stop).to_be_hidden()
        assert call.closed.wait(30)
        answer = "".join(TOKENS)
        assert saved(app) == [("user", "Count"), ("assistant", answer)]
        page.reload()
        expect(page.locator(".assistant")).to_have_text(answer.strip())


def test_a_second_message_hides_the_button_until_its_own_task_is_known(
    browser: Browser, server: Server
) -> None:
    with browser.new_context() as context:
        page = log_in(context, server.url, "alice")
        page.get_by_role("button", name="New chat").click()
        page.get_by_label("Message").fill("Count")
        page.get_by_role("button", name="Send").click()
        stop = page.get_by_role("button", name="Stop")
        expect(stop).to_be_visible()
        held: list[Route] = []
        page.route("**/messages", lambda route: held.append(route))
        page.get_by_label("Message").fill("Count again")
        with page.expect_request("**/messages"):
            page.get_by_role("button", name="Send").click()
        expect(stop).to_be_hidden()
        held[0].continue_()
        expect(stop).to_be_visible()
        expect(page.locator(".assistant").last).to_have_text("".join(TOKENS).strip())
        with page.expect_response(STOP) as stopped:
            stop.click()
        assert stopped.value.headers["chatstop-outcome"] == "stopping"
        expect(page.locator(".assistant").last).to_have_text("".join(TOKENS).strip())

"""A React page with ``useChat``, before and after the stop was added."""

import importlib.util
import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from flask import Flask
from playwright.sync_api import Browser, expect

from tests.support.node import bundle
from tests.support.paths import DOCS, ROOT
from tests.support.provider import TOKENS, Provider, provider
from tests.support.servers.gunicorn import Server, gunicorn

APP = ROOT / "tests" / "apps" / "use_chat"
PASSWORD = "alice's password"
SAID = "".join(TOKENS)
_MARKED = re.compile(r"^.*(#|//|\{/\*) stop( \*/\})?\n", re.MULTILINE)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    with provider() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "any")
        yield server


@pytest.fixture
def environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Provider
) -> None:
    monkeypatch.setenv("DATABASE", str(tmp_path / "chat.db"))
    monkeypatch.setenv("ALICES_PASSWORD", PASSWORD)


def saved(tmp_path: Path) -> list[tuple[str, str]]:
    """Return the messages in the database."""
    with closing(sqlite3.connect(tmp_path / "chat.db")) as db:
        return list(db.execute("SELECT role, content FROM message ORDER BY rowid"))


def before(tmp_path: Path) -> Flask:
    """Make the app as it was before the stop was added."""
    path = tmp_path / "app.py"
    path.write_text(_MARKED.sub("", (APP / "app.py").read_text()))
    spec = importlib.util.spec_from_file_location("use_chat_before", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    app: Flask = module.app
    return app


@pytest.mark.usefixtures("environment")
def test_it_was_a_whole_app_before_the_stop_was_added(
    tmp_path: Path, model: Provider
) -> None:
    model.then = "end"
    asked = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Count"}]}
    app = before(tmp_path)
    assert app.blueprints == {}
    answer = app.test_client().post(
        "/api/chat",
        json={"id": "c1", "messages": [asked]},
        auth=("alice", PASSWORD),
    )
    frames = [line[6:] for line in answer.text.splitlines() if line]
    parts = [json.loads(frame) for frame in frames[:-1]]
    assert [part["delta"] for part in parts if part["type"] == "text-delta"] == TOKENS
    assert saved(tmp_path) == [("user", "Count"), ("assistant", SAID)]
    page = tmp_path / "page.jsx"
    page.write_text(_MARKED.sub("", (APP / "page.jsx").read_text()))
    assert "stop" not in page.read_text()


def test_the_page_says_how_many_lines_the_stop_needs() -> None:
    python = len(_MARKED.findall((APP / "app.py").read_text()))
    script = len(_MARKED.findall((APP / "page.jsx").read_text()))
    page = " ".join((DOCS / "front-ends.md").read_text().split())
    assert f"{python + script} lines were added" in page
    assert f"{python} of them are Python" in page


@pytest.fixture
def server(tmp_path: Path, environment: None) -> Iterator[Server]:
    shutil.copytree(APP, tmp_path / "app", ignore=shutil.ignore_patterns("__*"))
    bundle(APP / "page.jsx", tmp_path / "app" / "static")
    options = ("--pythonpath", str(tmp_path / "app"), "-k", "gthread", "--threads", "8")
    with gunicorn("app:app", tmp_path, *options) as server:
        yield server
    assert "Traceback" not in server.log.read_text()


def test_the_words_stream_until_the_button_stops_the_model(
    browser: Browser, server: Server, model: Provider, tmp_path: Path
) -> None:
    login = {"username": "alice", "password": PASSWORD}
    with browser.new_context(http_credentials=login) as context:  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(server.url)
        page.get_by_label("Message").fill("Count")
        page.get_by_role("button", name="Send").click()
        expect(page.locator(".assistant")).to_have_text(SAID.strip())
        [call] = model.calls
        assert call.silent.wait(30) and not call.closed.is_set()

        page.get_by_role("button", name="Stop").click()
        assert call.closed.wait(30)
        expect(page.get_by_role("button", name="Stop")).to_be_hidden()
        expect(page.get_by_role("button", name="Send")).to_be_enabled()
        assert page.get_by_role("alert").count() == 0
        assert saved(tmp_path) == [("user", "Count"), ("assistant", SAID)]

        page.reload()
        expect(page.locator(".assistant")).to_have_text(SAID.strip())

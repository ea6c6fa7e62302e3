"""The script of the page "From outside a request" speaks Socket.IO in a browser."""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from flask.sessions import SecureCookieSessionInterface
from playwright.sync_api import Browser, Page, expect

from flask_chatstop.testing import wait_until
from tests.support.chat import Source
from tests.support.node import package
from tests.support.pages import blocks, run
from tests.support.servers.threaded import served

HTML = """<button id="stop">Stop</button><p id="answer"></p>"""


@pytest.fixture
def names() -> Iterator[Any]:
    """Return the names of the page, whose model is silent after two words.

    They are not those of ``names_of()``: a test client of Flask-SocketIO has taken the
    events of that app away.
    """
    names: Any = ModuleType("from_outside_in_a_browser")
    for code in blocks("from-outside.md", "python"):
        run(code, names)
    source = Source("One ", "two")
    names.ask_the_model = lambda query: source()
    yield names
    source.go_on.set()


@pytest.fixture
def page(browser: Browser, names: Any) -> Iterator[Page]:
    """Open a page of somebody who is logged in, with Socket.IO's client."""
    signer = SecureCookieSessionInterface().get_signing_serializer(names.app)
    assert signer is not None
    client = package("socket.io-client") / "dist" / "socket.io.min.js"
    with served(names.app) as url, browser.new_context() as context:
        session = str(signer.dumps({"user": "alice"}))
        context.add_cookies([{"name": "session", "value": session, "url": url}])
        page = context.new_page()
        page.goto(url)  # of the app's, if only a 404
        page.set_content(HTML)
        page.add_script_tag(path=client)
        page.add_script_tag(content="\n".join(blocks("from-outside.md", "js")))
        yield page


def is_over(names: Any) -> bool:
    with names.app.app_context():
        return bool(names.chatstop.tasks(user="alice", app="web") == [])


def test_its_button_stops_the_answer(page: Page, names: Any) -> None:
    page.evaluate("ask('hello')")
    expect(page.locator("#answer")).to_have_text("One two")
    page.locator("#stop").click()
    expect(page.locator("#answer")).to_have_text("One two (stopped)")
    wait_until(lambda: is_over(names))


def test_a_press_before_the_first_word_stops_the_new_answer_and_not_the_last_one(
    page: Page, names: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(names, "ask_the_model", lambda query: iter(["First. "]))
        page.evaluate("ask('first')")
        expect(page.locator("#answer")).to_have_text("First. ")
        wait_until(lambda: is_over(names))
    page.evaluate(
        """() => {
            ask("second");
            document.querySelector("#stop").click(); // the question is not even sent
        }"""
    )
    expect(page.locator("#answer")).to_contain_text("(stopped)")
    wait_until(lambda: is_over(names))

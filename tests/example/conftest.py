"""A chat page whose model writes what a test wants to be written."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.example.test_page import Tab, example
from tests.support.provider import Provider, provider
from tests.support.servers.gunicorn import Server

Ask = Callable[..., Tab]


@pytest.fixture(scope="module")
def page_model() -> Iterator[Provider]:
    with provider() as server:
        yield server


@pytest.fixture(scope="module")
def server(
    page_model: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    path = tmp_path_factory.mktemp("page")
    with example(path, OPENAI_BASE_URL=page_model.url) as server:
        yield server


@pytest.fixture
def ask(
    browser: Browser,
    server: Server,
    page_model: Provider,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Ask]:
    """Give what opens the page and has an answer written in it."""
    contexts: list[BrowserContext] = []
    tabs: list[Tab] = []

    def open_and_ask(answer: str, then: str = "end", **options: Any) -> Tab:
        contexts.append(browser.new_context(**options))
        tab = Tab(contexts[-1], server.url)
        tabs.append(tab)
        # In pieces that end anywhere, as a model's do.
        pieces = [answer[at : at + 7] for at in range(0, len(answer), 7)]
        monkeypatch.setattr("tests.support.provider.TOKENS", [*pieces, " Period"])
        page_model.then = then
        tab.say("Hello")
        expect(tab.answer()).to_contain_text("Period")
        if then == "end":
            expect(tab.status).to_have_text("The answer is complete.")
        return tab

    yield open_and_ask
    for context in contexts:
        context.close()
    # A report of the content security policy is a line on the console.
    assert [tab.problems for tab in tabs if tab.problems] == []

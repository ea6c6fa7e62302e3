"""The chat page, served once for each module, and the tabs that show it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.support.provider import Provider, provider
from tests.support.servers.chat_page import Open, Tab, example
from tests.support.servers.gunicorn import Server

Ask = Callable[..., Tab]


@pytest.fixture(scope="module")
def page_model() -> Iterator[Provider]:
    with provider() as server:
        yield server


@pytest.fixture
def model(page_model: Provider) -> Provider:
    """Give the model that the page talks to, which is silent after its tokens."""
    page_model.then = "silence"
    return page_model


@pytest.fixture(scope="module")
def server(
    page_model: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    path = tmp_path_factory.mktemp("page")
    with example(path, OPENAI_BASE_URL=page_model.url) as server:
        yield server


@pytest.fixture
def open_tab(browser: Browser, server: Server, model: Provider) -> Iterator[Open]:
    """Give what opens the page, in a new browser session unless one is given."""
    tabs: list[Tab] = []
    contexts: list[BrowserContext] = []

    def open_page(
        context: BrowserContext | None = None, url: str = "", **options: Any
    ) -> Tab:
        if context is None:
            context = browser.new_context(**options)
            context.set_default_timeout(30_000)
            contexts.append(context)
        tabs.append(Tab(context, url or server.url))
        return tabs[-1]

    yield open_page
    for context in contexts:
        context.close()
    assert [tab.problems for tab in tabs if tab.problems] == []


@pytest.fixture
def tab(open_tab: Open) -> Tab:
    return open_tab()


@pytest.fixture
def ask(open_tab: Open, model: Provider, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Give what opens the page and has an answer written in it."""

    def open_and_ask(answer: str, then: str = "end", **options: Any) -> Tab:
        tab = open_tab(**options)
        # In pieces that end anywhere, as a model's do.
        pieces = [answer[at : at + 7] for at in range(0, len(answer), 7)]
        monkeypatch.setattr("tests.support.provider.TOKENS", [*pieces, " Period"])
        model.then = then
        tab.say("Hello")
        expect(tab.answer()).to_contain_text("Period")
        if then == "end":
            expect(tab.status).to_have_text("The answer is complete.")
        return tab

    return open_and_ask

"""The chat page, served once for each module, and the tabs that show it."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext

from tests.support.provider import Provider, provider
from tests.support.servers.chat_page import Open, Tab, example
from tests.support.servers.gunicorn import Server


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
            context.set_default_timeout(10_000)
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

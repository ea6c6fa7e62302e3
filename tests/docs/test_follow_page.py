"""The page of "Come back to a running answer" survives its network, in a browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.support.pages import blocks
from tests.support.paths import ROOT
from tests.support.resetting_proxy import ResettingProxy
from tests.support.servers.gunicorn import gunicorn

WORDS = [f"{number} " for number in range(1, 21)]


@pytest.fixture
def network(tmp_path: Path) -> Iterator[ResettingProxy]:
    """Run the page's app, behind a network that breaks."""
    (tmp_path / "app.py").write_text(blocks("follow.md", "python")[0])
    options = ("-k", "gthread", "--threads", "8", "--chdir", str(tmp_path))
    with (
        gunicorn("app:app", tmp_path, *options, PYTHONPATH=str(ROOT)) as server,
        ResettingProxy(int(server.url.rpartition(":")[2])) as proxy,
    ):
        yield proxy


@pytest.fixture
def page(browser: Browser, network: ResettingProxy) -> Iterator[Page]:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{network.port}")  # of the app's, if only a 404
        page.evaluate("fetch('/login', {method: 'POST'})")
        page.add_script_tag(content="\n".join(blocks("follow.md", "js")))
        yield page


def test_a_page_whose_network_breaks_gets_every_word_once(
    page: Page, network: ResettingProxy
) -> None:
    page.evaluate(
        """async () => {
            window.said = [];
            window.end = follow(await ask("Hello"), (text) => said.push(text));
        }"""
    )
    page.wait_for_function("said.length > 3")
    network.refuse()
    network.admit()
    assert page.evaluate("end") == "finished"
    assert page.evaluate("said") == WORDS


def test_a_browser_that_comes_back_after_the_end_is_sent_away(page: Page) -> None:
    page.evaluate(
        """async () => {
            window.ids = [];
            const url = `/web/chat-messages/${await ask("Hello")}/events`;
            window.source = new EventSource(url);
            for (const name of ["begin", "message", "end"]) {
                source.addEventListener(name, (event) => ids.push(event.lastEventId));
            }
        }"""
    )
    page.wait_for_function("source.readyState === EventSource.CLOSED")
    assert page.evaluate("ids") == [str(number) for number in range(1, 23)]

"""A browser reads the formats as they come: by EventSource, and by fetch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import request
from playwright.sync_api import Browser, Page

from flask_chatstop import GenerationTask
from flask_chatstop.formats import JSONLines, PlainText, ServerSentEvents
from flask_chatstop.testing import wait_until
from tests.formats.reader_app import ReaderApp, silent
from tests.support.resetting_proxy import ResettingProxy

SOURCE = """
window.seen = [];
window.source = new EventSource("/chat?model=silent");
const note = ({type, data, lastEventId}) =>
  window.seen.push([type, lastEventId, JSON.parse(data)]);
for (const type of ["begin", "message", "tool"]) source.addEventListener(type, note);
source.addEventListener("end", (event) => { note(event); source.close(); });
source.addEventListener("error", () => seen.push(["error", source.readyState]));
"""


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    yield page
    page.close()


def with_tool(task: GenerationTask) -> Iterator[Any]:
    yield {"event": "tool", "name": "search"}
    yield from silent(task)


@contextmanager
def opened(app: ReaderApp, page: Page) -> Iterator[str]:
    """Open an empty page of the app."""
    with app.served() as url:
        page.goto(url)
        yield url


def stop(app: ReaderApp) -> None:
    assert app.stop(app.by_name["silent"].id).status_code == 200


def test_an_event_source_reads_an_answer_and_closes_at_its_end(page: Page) -> None:
    app = ReaderApp("/chat", ServerSentEvents, {"silent": with_tool}, heartbeat=0.05)
    with opened(app, page):
        page.evaluate(SOURCE)
        page.wait_for_function("seen.length == 3")
        stop(app)
        page.wait_for_function("source.readyState == EventSource.CLOSED")
        assert page.evaluate("seen") == [
            ["begin", "1", {"task_id": app.by_name["silent"].id}],
            ["tool", "2", {"name": "search"}],
            ["message", "3", {"text": "One "}],
            ["end", "4", {"end_reason": "stopped"}],
        ]
    assert len(app.tasks) == 1


def test_a_browser_that_comes_back_is_sent_away_for_good(page: Page) -> None:
    app = ReaderApp(
        "/chat",
        lambda: ServerSentEvents(retry=0.001),
        {"silent": with_tool},
        on_disconnect="continue",
    )
    came_back: list[str] = []

    @app.app.before_request
    def note() -> None:
        if last := request.headers.get("Last-Event-ID"):
            came_back.append(last)

    with (
        app.served() as url,
        ResettingProxy(int(url.rpartition(":")[2])) as proxy,
    ):
        page.goto(f"http://127.0.0.1:{proxy.port}/")
        page.evaluate(SOURCE)
        page.wait_for_function("seen.length == 3")
        proxy.refuse()
        wait_until(lambda: page.evaluate("seen.length") > 3)
        proxy.admit()
        page.wait_for_function("source.readyState == EventSource.CLOSED")
        assert page.evaluate("seen.at(-1)") == ["error", 2]
        stop(app)
    assert came_back == ["3"]
    assert len(app.tasks) == 1
    assert app.end_of("silent").reason == "stopped"


@pytest.mark.parametrize("make_format", [PlainText, JSONLines])
def test_fetch_reads_what_is_sent_at_once(page: Page, make_format: Any) -> None:
    app = ReaderApp("/chat", make_format, {"silent": silent})
    with opened(app, page):
        page.evaluate("""async () => {
          const response = await fetch("/chat?model=silent", {method: "POST"});
          window.taskId = response.headers.get("Chatstop-Task-Id");
          window.text = "";
          const chunks = response.body.pipeThrough(new TextDecoderStream());
          window.over = false;
          (async () => {
            for await (const chunk of chunks) window.text += chunk;
            window.over = true;
          })();
        }""")
        page.wait_for_function("text.includes('One ')")
        assert page.evaluate("taskId") == app.by_name["silent"].id
        stop(app)
        page.wait_for_function("over")
        if make_format is PlainText:
            assert page.evaluate("text") == "One "
        else:
            assert page.evaluate("text").endswith('"end_reason":"stopped"}\n')

"""What the page "Your front end" shows, done by its readers."""

import functools
import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from playwright.sync_api import Browser, Page, expect

from flask_chatstop import formats, stream_response
from flask_chatstop.testing import wait_until
from tests.support.chat import Source
from tests.support.node import bundle
from tests.support.pages import blocks, names_of
from tests.support.paths import DOCS
from tests.support.resetting_proxy import ResettingProxy
from tests.support.servers.threaded import served

LOGIN = {"username": "alice", "password": "change-me"}
AUTH = ("alice", "change-me")
HTML = """<!doctype html><link rel="icon" href="data:,">
<button id="stop">Stop</button><p id="answer"></p><script>{script}</script>
<div id="root"></div><script type="module" src="/static/bundle.js"></script>"""
MOUNT = """
import {createRoot} from "react-dom/client";
createRoot(document.getElementById("root")).render(<Chat />);
"""


@pytest.fixture(scope="module")
def names() -> Any:
    names = names_of("front-ends.md")
    script = "\n".join(blocks("front-ends.md", "js"))
    names.app.add_url_rule("/", "page", lambda: HTML.replace("{script}", script))
    return names


@pytest.fixture(scope="module")
def url(names: Any) -> Iterator[str]:
    with served(names.app) as url:
        yield url


@pytest.fixture
def source(names: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    """Make the model say twelve words, then nothing."""
    source = Source("One ", *["more "] * 11)
    monkeypatch.setattr(names, "ask_the_model", lambda query: source())
    yield source
    source.go_on.set()


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    with browser.new_context(http_credentials=LOGIN) as context:  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(url)
        yield page


@pytest.mark.parametrize(
    ("ask", "end"),
    [
        ("askForDifyEvents", "stopped"),
        ("askForText", "over"),
        ("askForLines", "stopped"),
        ("askByEventSource", "stopped"),
    ],
)
def test_the_button_of_a_page_stops_the_answer(
    page: Page, source: Source, ask: str, end: str
) -> None:
    page.evaluate(f"{ask}('hello').then((end) => (window.end = end)); null")
    expect(page.locator("#answer")).to_have_text("One " + "more " * 11)
    page.locator("#stop").click()
    page.wait_for_function("window.end")
    assert page.evaluate("window.end") == end
    is_text = ask == "askForText"
    said = page.locator("#answer").text_content()
    assert said == "One " + "more " * 11 + (" (stopped)" if is_text else "")


@pytest.mark.parametrize(
    "ask", ["askForDifyEvents", "askForText", "askForLines", "askByEventSource"]
)
def test_a_press_before_the_first_event_stops_the_new_answer_and_not_the_last_one(
    page: Page, names: Any, ask: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.evaluate(f"{ask}('first')")
    expect(page.locator("#answer")).to_have_text("You said first")
    source = Source("One ")
    monkeypatch.setattr(names, "ask_the_model", lambda query: source())
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    page.evaluate(
        f"""() => {{
            window.asked = {ask}("second");
            button.click(); // the question is not even sent
            window.late = new Promise((end) => setTimeout(end, 30000, "runs on"));
        }}"""
    )
    expected = "over" if ask == "askForText" else "stopped"
    assert page.evaluate("Promise.race([asked, late])") == expected
    assert len([url for url in sent if url.endswith("/stop")]) == 1
    source.go_on.set()


def test_a_page_is_told_that_its_connection_was_lost(
    names: Any, browser: Browser, url: str, source: Source
) -> None:
    with (
        ResettingProxy(int(url.rpartition(":")[2])) as network,
        browser.new_context(http_credentials=LOGIN) as context,  # type: ignore[arg-type]
    ):
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{network.port}")
        page.evaluate("window.ends = []")
        for ask in ("askForDifyEvents", "askForLines"):
            page.evaluate(f"{ask}('hello').then((end) => ends.push(end)); null")
        expect(page.locator("#answer")).to_contain_text("more " * 11)
        page.wait_for_function("answer.textContent.match(/more/g).length === 22")
        network.refuse()
        page.wait_for_function("ends.length === 2")
        assert page.evaluate("ends") == ["lost", "lost"]


def test_a_page_is_told_of_a_whole_answer(page: Page) -> None:
    for ask in ("askForDifyEvents", "askForLines", "askByEventSource"):
        page.evaluate("answer.textContent = ''")
        assert page.evaluate(f"{ask}('hello')") == "finished"
        expect(page.locator("#answer")).to_have_text("You said hello")


def test_the_stream_of_a_question_asks_the_model_once(
    names: Any, source: Source
) -> None:
    client = names.app.test_client()
    asked = client.post("/questions", json={"query": "hello"}, auth=AUTH)
    stream = asked.json["stream"]
    [question] = names.questions.items()
    assert client.get(stream, auth=("eve", "")).status_code == 401
    first = client.get(stream, auth=AUTH)
    assert first.status_code == 200
    assert client.get(stream, auth=AUTH).status_code == 404
    names.questions.update([question])  # as another worker may still find it
    assert client.get(stream, auth=AUTH).status_code == 409
    first.close()


def test_the_program_that_reads_lines_stops_after_ten(
    names: Any, url: str, source: Source
) -> None:
    text, end_reason = names.read(url, AUTH, "hello")
    assert text.startswith("One " + "more " * 9)
    assert end_reason == "stopped"


def test_the_program_of_the_openai_library_stops_after_ten(
    names: Any, url: str, source: Source
) -> None:
    with openai.OpenAI(api_key="demo-key", base_url=f"{url}/v1") as client:
        text, end_reason = names.complete_ten_chunks(client, "hello")
    assert text.startswith("One " + "more " * 9)
    assert end_reason == "stopped"


@pytest.fixture(scope="module")
def component(names: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Build the component of the page, and serve it."""
    folder = tmp_path_factory.mktemp("static")
    [component] = blocks("front-ends.md", "jsx")
    source = folder / "page.jsx"
    source.write_text(component + MOUNT)
    bundle(source, folder)
    names.app.static_folder = str(folder)


@pytest.fixture
def react_page(component: None, page: Page) -> Page:
    return page


def test_the_button_of_use_chat_stops_on_the_server(
    react_page: Page, source: Source, names: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that a client which only leaves ends nothing.
    lasting = functools.partial(stream_response, on_disconnect="continue")
    monkeypatch.setattr(names, "stream_response", lasting)
    react_page.get_by_role("button", name="Say hello").click()
    answer = react_page.locator(".assistant")
    expect(answer).to_have_text("One " + "more " * 11)
    stop = react_page.locator("#root").get_by_role("button", name="Stop")
    with react_page.expect_response("**/chat-messages/*/stop") as response:
        stop.click()
    assert response.value.ok
    expect(stop).to_be_hidden()
    expect(answer).to_have_text("One " + "more " * 11 + "Stopped")
    with names.app.app_context():
        wait_until(lambda: names.web.tasks(user="alice", app="alice") == [])


def test_a_press_of_use_chat_before_the_answer_has_begun_stops_it_when_it_begins(
    react_page: Page, names: Any, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def wait(*arguments: Any, **options: Any) -> Any:
        asked.set()
        assert go_on.wait(30)
        # So that a client which only leaves ends nothing.
        return stream_response(*arguments, on_disconnect="continue", **options)

    monkeypatch.setattr(names, "stream_response", wait)
    react_page.get_by_role("button", name="Say hello").click()
    assert asked.wait(30)
    stop = react_page.locator("#root").get_by_role("button", name="Stop")
    stop.click()
    with react_page.expect_response("**/chat-messages/*/stop") as response:
        go_on.set()
    assert response.value.headers["chatstop-outcome"] == "stopping"
    expect(stop).to_be_hidden()
    expect(react_page.locator(".assistant small")).to_have_text("Stopped")
    with names.app.app_context():
        wait_until(lambda: names.web.tasks(user="alice", app="alice") == [])


def test_a_press_of_use_chat_whose_stop_fails_leaves_the_answer(
    react_page: Page, names: Any, source: Source
) -> None:
    react_page.route("**/chat-messages/*/stop", lambda route: route.abort())
    react_page.get_by_role("button", name="Say hello").click()
    expect(react_page.locator(".assistant")).to_have_text("One " + "more " * 11)
    stop = react_page.locator("#root").get_by_role("button", name="Stop")
    stop.click()
    expect(stop).to_be_hidden()
    source.go_on.set()
    with names.app.app_context():
        wait_until(lambda: names.web.tasks(user="alice", app="alice") == [])


def test_the_table_has_every_format_with_its_content_type() -> None:
    row = r"^\| \[`(\w+)`\]\(#\S+\) \|[^|]*\| `([\w/-]+)` \|"
    rows = re.findall(row, (DOCS / "front-ends.md").read_text(), re.MULTILINE)
    found = {name: getattr(formats, name) for name in formats.__all__}
    assert dict(rows) == {
        name: each.mimetype
        for name, each in found.items()
        if isinstance(each, type)
        and issubclass(each, formats.StreamFormat)
        and each is not formats.StreamFormat
    }


def test_the_format_of_the_page_sends_parts(names: Any) -> None:
    app = names.app

    def answer() -> Any:
        task = names.web.start(user="alice", app="alice")
        return stream_response(task, ["One ", "two"], format=names.DataStream())

    with app.test_request_context():
        response = answer()
        lines = response.get_data(as_text=True).splitlines()
    task_id = json.loads(lines[0][2:])[0]["taskId"]
    assert response.headers["Chatstop-Task-Id"] == task_id
    assert lines[1:] == [
        '0:"One "',
        '0:"two"',
        '2:[{"endReason":"finished"}]',
        'd:{"finishReason":"stop"}',
    ]


def test_the_format_of_the_page_has_as_many_lines_as_it_says() -> None:
    [code] = [code for code in blocks("front-ends.md", "python") if "DataStr" in code]
    assert len([line for line in code.splitlines() if line]) <= 15

"""The scripts of the tutorial work in a real browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.support.pages import blocks
from tests.support.paths import ROOT
from tests.support.resetting_proxy import ResettingProxy
from tests.support.servers.gunicorn import gunicorn

SETTINGS = {
    "as shown": "",
    # Then each event begins with a line of its id.
    "with a log of answers": 'app.config["CHATSTOP_EVENTS"] = "memory://"\n',
}


@pytest.fixture(params=SETTINGS)
def network(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ResettingProxy]:
    """Run the app of the fifth step, behind a network that breaks."""
    app = blocks("tutorial.md", "python")[4]
    before, chatstop, after = app.partition("web = ChatStop")
    settings = SETTINGS[request.param]
    (tmp_path / "app.py").write_text(f"{before}{settings}{chatstop}{after}")
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
        page.add_script_tag(content="\n".join(blocks("tutorial.md", "js")))
        yield page


def test_the_scripts_of_the_fifth_step_stream_an_answer_and_stop_it(page: Page) -> None:
    end, said = page.evaluate(
        """async () => {
            const said = [];
            const end = await send("Hello", (text) => {
                if (said.push(text) === 3) stop();
            });
            return [end, said];
        }"""
    )
    assert end == "stopped"
    assert said[:3] == ["", "1 ", "2 "]


def test_a_press_before_the_first_event_stops_the_new_answer_and_not_the_last_one(
    page: Page,
) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    ends = page.evaluate(
        """async () => {
            const first = await send("Hello", (text) => text && stop());
            const second = send("Hello again", () => null);
            stop(); // the request of the second answer is not even sent
            const late = new Promise((end) => setTimeout(end, 30000, "runs on"));
            return [first, await Promise.race([second, late])];
        }"""
    )
    assert ends == ["stopped", "stopped"]
    stops = [url for url in sent if url.endswith("/stop")]
    assert len(set(stops)) == 2
    assert stops.count(stops[-1]) == 1


def test_an_answer_whose_connection_breaks_is_disconnected(
    page: Page, network: ResettingProxy
) -> None:
    page.evaluate(
        """() => {
            window.said = [];
            window.end = send("Hello", (text) => said.push(text));
        }"""
    )
    page.wait_for_function("said.length > 2")
    network.refuse()
    assert page.evaluate("end") == "disconnected"

"""The scripts of the tutorial work in a real browser."""

from pathlib import Path

from playwright.sync_api import Browser

from tests.support.pages import blocks
from tests.support.paths import ROOT
from tests.support.servers.gunicorn import gunicorn


def test_the_scripts_of_the_fifth_step_stream_an_answer_and_stop_it(
    browser: Browser, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(blocks("tutorial.md", "python")[4])
    options = ("-k", "gthread", "--threads", "8", "--chdir", str(tmp_path))
    with (
        gunicorn("app:app", tmp_path, *options, PYTHONPATH=str(ROOT)) as server,
        browser.new_context() as context,
    ):
        page = context.new_page()
        page.goto(server.url)  # a page of the app's own, if only that it has none
        page.evaluate("fetch('/login', {method: 'POST'})")
        page.add_script_tag(content="\n".join(blocks("tutorial.md", "js")))
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

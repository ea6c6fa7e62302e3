"""The chat page of the example, in a real browser against a real server."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Locator, expect

from tests.support.provider import TOKENS
from tests.support.servers.gunicorn import Server, gunicorn

SAID = "".join(TOKENS)
CHAT = "**/web/chat-messages"
STOP = "**/web/chat-messages/*/stop"
EVENTS = "**/web/chat-messages/*/events"


class Tab:
    """A tab with the page in it, and what went wrong on its console."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.page = context.new_page()
        self.problems: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on(
            "console",
            lambda message: (
                self.problems.append(message.text)
                if message.type in ("error", "warning")
                else None
            ),
        )
        with self.page.expect_response(CHAT):
            self.page.goto(url)
        self.query = self.page.get_by_label("Message")
        self.send = self.page.locator("#send")
        self.stop = self.page.locator("#stop")
        self.status = self.page.get_by_role("status")
        self.alert = self.page.get_by_role("alert")

    def say(self, text: str) -> None:
        """Type a message and send it."""
        self.query.fill(text)
        self.query.press("Enter")

    def answer(self, number: int = 0) -> Locator:
        """Give the text of an answer."""
        return self.page.get_by_role("article", name="Answer").nth(number)

    def reload(self) -> None:
        """Load the page again."""
        with self.page.expect_response(CHAT):
            self.page.reload()

    def streams(self, number: int = 0) -> None:
        """Wait until an answer has begun, which will not end by itself."""
        expect(self.answer(number)).to_have_text(SAID.strip())
        expect(self.stop).to_have_text("StopEsc")

    def is_stopped(self, number: int = 0) -> None:
        """Wait until an answer is shown as stopped, with what was said before."""
        expect(self.answer(number)).to_have_text(f"{SAID}Stopped")
        expect(self.stop).to_be_hidden()
        expect(self.alert).to_be_empty()

    @property
    def said(self) -> str:
        """The text of the first answer, without its mark."""
        return self.page.locator(".text").first.inner_text()

    def grows(self) -> None:
        """Wait until a few more words of the answer have come."""
        text = self.page.locator(".text").first
        more = len(text.evaluate("each => each.textContent")) + 50
        self.until(f"document.querySelector('.text').textContent.length > {more}")

    def until(self, condition: str) -> None:
        """Wait until an expression holds; the policy of the page forbids to poll it."""
        self.page.evaluate(
            f"""() => new Promise((resolve, reject) => {{
                const deadline = Date.now() + 30_000;
                const look = () => {{
                    if ({condition}) resolve();
                    else if (Date.now() > deadline) reject("it does not hold");
                    else setTimeout(look, 20);
                }};
                look();
            }})"""
        )

    def has_no_violation(self) -> None:
        """Have axe look at the page."""
        results = Axe().run(self.page)
        assert results.violations_count == 0, results.generate_report()


Open = Callable[..., Tab]


@contextmanager
def example(path: Path, **environ: str) -> Iterator[Server]:
    """Run the example under gunicorn, with one worker of many threads.

    It has answered once, so that no page waits for the import of the app.
    """
    environ = {
        "FLASK_CHAT_DATABASE": str(path / "chat.sqlite3"),
        "FLASK_CHATSTOP_BACKEND": "memory://",
        "OPENAI_API_KEY": "any",
        **environ,
    }
    options = ("-k", "gthread", "--threads", "32", "--graceful-timeout", "1")
    with gunicorn("example_app:create_app()", path, *options, **environ) as server:
        httpx.get(server.url, timeout=60).raise_for_status()
        yield server

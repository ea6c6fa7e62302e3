"""Make the pictures of the chat page that the README shows.

Run ``python -m docs.make_pictures`` in the project's folder. The page is the example's,
in Chromium; its model says what this script wants it to say.
"""

import argparse
import io
import json
import logging
import os
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from flask import Flask, Response
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from werkzeug.serving import make_server

from example_app import create_app
from tests.support.servers.browser import run_chromium

WIDTH = 800
STORY = "Once upon a time, there was a harbour at the end of the world, and in it a "
CODE = [
    "Read it **line",
    " by line**, which takes little memory",
    ' however long it is:\n\n```python\nwith open("notes.txt")',
    ' as lines:\n    for line in lines:\n        print(line, end="")',
    "\n```\n\nThe `with` block closes",
    " the file, even if",
]
#: Milliseconds that a picture of the animation stays.
STREAMS, STOPPED = 450, 3500


class Model:
    """A model that says a piece when it is told to."""

    def __init__(self) -> None:
        self.app = Flask("model")
        self.app.add_url_rule(
            "/chat/completions", view_func=self._answer, methods=["POST"]
        )
        self._answers = queue.SimpleQueue[queue.SimpleQueue[str]]()

    def begin(self) -> queue.SimpleQueue[str]:
        """Wait until an answer is asked for, and give what its pieces are put into."""
        return self._answers.get(timeout=20)

    def _answer(self) -> Response:
        pieces = queue.SimpleQueue[str]()
        self._answers.put(pieces)
        return Response(self._stream(pieces), mimetype="text/event-stream")

    def _stream(self, pieces: queue.SimpleQueue[str]) -> Iterator[str]:
        while True:
            delta = {"index": 0, "delta": {"content": pieces.get()}}
            chunk = {
                "id": "chatcmpl-1",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": "script",
                "choices": [delta],
            }
            yield f"data: {json.dumps(chunk)}\n\n"


def make(browser: Browser, folder: Path) -> None:
    """Make the pictures, with the names that they have in ``docs``."""
    model = Model()
    with TemporaryDirectory() as data, serve(model.app) as model_url:
        os.environ.update(OPENAI_BASE_URL=model_url, OPENAI_API_KEY="any")
        app = create_app(
            {
                "CHATSTOP_BACKEND": "memory://",
                "CHAT_DATABASE": f"{data}/chat.sqlite3",
                "CHATSTOP_API_KEYS": {"unused": "unused"},
            }
        )
        with serve(app) as url:
            with open_page(browser, url, height=640) as page:
                make_still(page, model, folder / "chat-page.png")
            with open_page(browser, url, height=520) as page:
                make_animation(page, model, folder / "stop.gif")


def make_still(page: Page, model: Model, path: Path) -> None:
    """Show an answer that was stopped, and one that streams."""
    ask(page, "Tell me a story without an end.")
    model.begin().put(STORY)
    expect(page.get_by_text(STORY.strip())).to_be_visible()
    stop(page)
    ask(page, "How do I read a file in Python?")
    model.begin().put("".join(CODE))
    expect(page.get_by_text("even if")).to_be_visible()
    page.screenshot(path=path, animations="disabled")
    stop(page)


def make_animation(page: Page, model: Model, path: Path) -> None:
    """Show an answer that streams and is stopped."""
    ask(page, "How do I read a file in Python?")
    pieces = model.begin()
    frames = []
    for piece in CODE:
        pieces.put(piece)
        last = piece.replace("`", "").splitlines()[-1].split("**")[-1].strip()
        expect(page.locator(".text")).to_contain_text(last)
        frames.append(picture(page))
    page.locator("#stop").focus()
    frames.append(picture(page))
    stop(page)
    frames.append(picture(page))
    # One palette for all, or what stays would flicker.
    palette = frames[-2].quantize(256)
    none = Image.Dither.NONE
    first, *others = (frame.quantize(palette=palette, dither=none) for frame in frames)
    durations = [STREAMS] * (len(frames) - 1) + [STOPPED]
    first.save(path, append_images=others, duration=durations, loop=0, optimize=True)


@contextmanager
def open_page(browser: Browser, url: str, height: int) -> Iterator[Page]:
    """Open the page in a new session for the length of a with block."""
    with browser.new_context(
        viewport={"width": WIDTH, "height": height}, device_scale_factor=2
    ) as context:
        page = context.new_page()
        page.goto(url)
        yield page


def ask(page: Page, text: str) -> None:
    """Send a message."""
    page.get_by_label("Message").fill(text)
    page.get_by_label("Message").press("Enter")


def stop(page: Page) -> None:
    """Press the stop button, and wait until the answer is marked."""
    page.locator("#stop").click()
    expect(page.locator(".mark").last).to_have_text("Stopped")
    # Away from the button, which is gone.
    page.mouse.move(0, 0)


def picture(page: Page) -> Image.Image:
    """Take a picture, without the transparency that a GIF does not know."""
    taken = page.screenshot(animations="disabled")
    return Image.open(io.BytesIO(taken)).convert("RGB")


@contextmanager
def serve(app: Flask) -> Iterator[str]:
    """Serve an app for the length of a with block, and give its address."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the pictures of the README.")
    parser.add_argument("--to", type=Path, default=Path(__file__).parent)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with run_chromium() as chromium:
        make(chromium, parser.parse_args().to)

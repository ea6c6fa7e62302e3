"""Pages of other origins, in a real browser, against an app whose CORS permits all."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask, Response, request, session
from playwright.sync_api import Browser
from werkzeug.serving import make_server

from flask_chatstop import ChatStop, GenerationTask, SessionAuth, SingleUserAuth

#: Sends a stop, and returns its status, 0 if the browser lets no script read it.
SEND = """([url, type]) => fetch(url, {
    method: "POST", credentials: "include", body: "{}", headers: {"Content-Type": type},
}).then((response) => response.status, () => 0)"""


class CarelessApp:
    """An app whose CORS headers permit everything to everybody."""

    def __init__(self, auth: SessionAuth | SingleUserAuth) -> None:
        self.app = Flask("careless")
        self.app.config.update(SECRET_KEY="any", SESSION_COOKIE_SAMESITE="Lax")
        self.chatstop = ChatStop(auth=auth)
        self.cookies: list[bool] = []
        self.tasks: list[GenerationTask] = []
        self.app.add_url_rule("/", view_func=self.begin)
        self.app.add_url_rule("/page", view_func=lambda: "")
        self.app.before_request(self.note)
        self.app.after_request(self.permit)
        self.app.register_blueprint(self.chatstop)

    def begin(self) -> str:
        session["user"] = "alice"
        self.tasks.append(self.chatstop.start())
        return ""

    def note(self) -> None:
        if request.method == "POST":
            self.cookies.append("session" in request.cookies)

    def permit(self, response: Response) -> Response:
        origin = request.headers.get("Origin", "*")
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Allow-Credentials"] = "true"
        response.headers["Access-Control-Allow-Headers"] = "Content-Type"
        return response


@contextmanager
def served(app: Flask) -> Iterator[int]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("auth", "other", "brings_cookie"),
    [
        (SessionAuth("user"), "localhost", True),  # another port is of the same site
        (SingleUserAuth(), "127.0.0.1", False),
    ],
)
def test_a_page_of_another_origin_cannot_stop_an_answer_though_cors_permits_it(
    browser: Browser, auth: Any, other: str, brings_cookie: bool
) -> None:
    site = CarelessApp(auth)
    with (
        served(site.app) as port,
        served(site.app) as other_port,
        browser.new_context() as context,
    ):
        page = context.new_page()
        page.goto(f"http://localhost:{port}")
        [task] = site.tasks
        url = f"http://localhost:{port}/chat-messages/{task.id}/stop"
        page.goto(f"http://{other}:{other_port}/page")
        assert page.evaluate(SEND, [url, "application/json"]) == 403
        assert page.evaluate(SEND, [url, "text/plain"]) == 403
        assert site.cookies == [brings_cookie] * 2
        assert not task.stopped
        page.goto(f"http://localhost:{port}/page")
        assert page.evaluate(SEND, [url, "application/json"]) == 200
        assert task.stopped

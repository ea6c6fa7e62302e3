"""Requests per second of the stop route, beside a bare route with the same key check.

Both are called as a WSGI server calls them, in one process and one thread, in turns.
The bare route checks the bearer key with flask-httpauth, reads a JSON body and
answers JSON. Run it with ``python -m benchmarks.route``.
"""

import io
import json
import statistics
import time
from collections.abc import Callable
from typing import Any
from wsgiref.util import setup_testing_defaults

from flask import Flask, request
from flask_httpauth import HTTPTokenAuth

from flask_chatstop import ChatStop

ROUNDS = 31
REQUESTS = 400
BODY = json.dumps({"user": "alice"}).encode()


def make_app() -> tuple[Flask, ChatStop]:
    app = Flask("benchmark")
    app.config["CHATSTOP_API_KEYS"] = {"demo-key": "demo"}
    chatstop = ChatStop()
    auth = HTTPTokenAuth("Bearer")

    @auth.verify_token  # type: ignore[untyped-decorator]
    def verify(token: str) -> str | None:
        return {"demo-key": "demo"}.get(token)

    @app.post("/bare/<task_id>")
    @auth.login_required  # type: ignore[untyped-decorator]
    def bare(task_id: str) -> dict[str, str]:
        request.get_json()["user"]
        return {"result": "success"}

    app.register_blueprint(chatstop, url_prefix="/v1")
    return app, chatstop


def caller(app: Flask, path: str) -> Callable[[], None]:
    """Make a function that sends one request to an app."""

    def call() -> None:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": path,
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(BODY)),
            "HTTP_AUTHORIZATION": "Bearer demo-key",
            "wsgi.input": io.BytesIO(BODY),
        }
        setup_testing_defaults(environ)
        statuses: list[str] = []
        body = app(environ, lambda status, headers, _=None: statuses.append(status))  # type: ignore[arg-type]
        b"".join(body)
        assert statuses == ["200 OK"], statuses

    return call


def rate(call: Callable[[], None]) -> float:
    """Measure requests per second."""
    begun = time.perf_counter()
    for _ in range(REQUESTS):
        call()
    return REQUESTS / (time.perf_counter() - begun)


def main() -> None:
    """Measure, and print one line."""
    app, chatstop = make_app()
    headers = {"Authorization": "Bearer demo-key"}
    with app.test_request_context(headers=headers):
        task = chatstop.login_required(lambda: chatstop.start(user="alice"))()
    bare = caller(app, "/bare/some-id")
    stop = caller(app, f"/v1/chat-messages/{task.id}/stop")
    rates = [(rate(bare), rate(stop)) for _ in range(ROUNDS)]
    ratio = statistics.median(stop / bare for bare, stop in rates)
    print(
        f"stop route {statistics.median(r for _, r in rates):,.0f}/s,"
        f" bare route {statistics.median(r for r, _ in rates):,.0f}/s,"
        f" ratio {ratio:.2f}"
    )


if __name__ == "__main__":
    main()

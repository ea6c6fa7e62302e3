"""The app that ``stop_latency`` measures: a silent model, and a bare route."""

import threading
from collections.abc import Iterator

from flask import Flask, Response, request

from flask_chatstop import ChatStop, GenerationTask, chat_response

chatstop = ChatStop()


def create_app() -> Flask:
    """Make the app; its backend comes from ``FLASK_CHATSTOP_BACKEND``."""
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config["CHATSTOP_API_KEYS"] = {"demo-key": "demo"}
    app.register_blueprint(chatstop, url_prefix="/v1")
    app.add_url_rule("/v1/chat-messages", view_func=send_message, methods=["POST"])
    app.add_url_rule("/bare", view_func=bare, methods=["POST"])
    return app


@chatstop.login_required
def send_message() -> Response:
    """Stream one piece and then silence, or chunks at a rate until it is stopped."""
    body = request.get_json()
    task = chatstop.start(user=body["user"])
    return chat_response(task, pieces(task, body.get("pause")))


def pieces(task: GenerationTask, pause: float | None) -> Iterator[str]:
    """Give a piece, and then one every so many seconds, or nothing more."""
    stopped = threading.Event()
    task.on_stop(stopped.set)
    yield "piece"
    while not stopped.wait(pause):
        yield "piece"


@chatstop.login_required
def bare() -> dict[str, str]:
    """Answer as the stop route does, without a stop."""
    request.get_json()["user"]
    return {"result": "success"}

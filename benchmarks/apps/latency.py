"""The app that ``stop_latency`` measures: it passes on a provider's answer."""

import threading
from collections.abc import Iterator

import httpx
from flask import Flask, Response, request

from flask_chatstop import ChatStop, GenerationTask, chat_response

chatstop = ChatStop()


def create_app() -> Flask:
    """Make the app; its backend comes from ``FLASK_CHATSTOP_BACKEND``."""
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config["CHATSTOP_API_KEYS"] = {"demo-key": "demo"}
    app.extensions["models"] = httpx.Client(timeout=None)
    app.register_blueprint(chatstop, url_prefix="/v1")
    app.add_url_rule("/v1/chat-messages", view_func=send_message, methods=["POST"])
    app.add_url_rule("/bare", view_func=bare, methods=["POST"])
    return app


@chatstop.login_required
def send_message() -> Response:
    """Stream what the provider says, or pieces at a rate of our own."""
    body = request.get_json()
    task = chatstop.start(user=body["user"])
    if "pause" in body:
        return chat_response(task, pieces(task, body["pause"]))
    models: httpx.Client = task.app.extensions["models"]
    question = models.build_request("GET", body["provider"])
    reply = models.send(question, stream=True)
    return chat_response(task, reply.iter_text(), upstream=reply)


def pieces(task: GenerationTask, pause: float) -> Iterator[str]:
    """Give a piece every so many seconds, until the task is stopped."""
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

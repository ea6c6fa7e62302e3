"""The app that ``follow`` measures: answers that are kept, and those of a rival."""

import threading
import time
from collections.abc import Iterator

from flask import Flask, Response, request

from flask_chatstop import ChatStop, GenerationTask, chat_response

chatstop = ChatStop()
#: What the rival's page polls: the text so far, in the memory of the very process that
#: streams it.
texts: dict[str, str] = {}
#: Answers that wait for their followers after the first number.
gates: dict[str, threading.Event] = {}


def create_app() -> Flask:
    """Make the app; its stores come from the environment."""
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config["CHATSTOP_API_KEYS"] = {"demo-key": "demo"}
    app.register_blueprint(chatstop, url_prefix="/v1")
    for path, view in (
        ("/v1/chat-messages", answer),
        ("/conversation", conversation),
        ("/go", go),
        ("/bare", bare),
    ):
        app.add_url_rule(path, view_func=view, methods=["POST"])
    return app


@chatstop.login_required
def answer() -> Response:
    """Stream numbers at a pace, then be silent or end."""
    body = request.get_json()
    task = chatstop.start(user=body["user"])
    if body.get("waits"):
        gates[task.id] = threading.Event()
    source = numbers(task, body["count"], body["pace"], is_silent="silent" in body)
    return chat_response(task, source, heartbeat=3600.0)


def numbers(
    task: GenerationTask, count: int, pace: float, *, is_silent: bool
) -> Iterator[str]:
    """Give so many numbers; keep them where the rival looks."""
    task_id, stopped = task.id, threading.Event()
    task.on_stop(stopped.set)
    texts[task_id] = ""
    for number in range(count):
        texts[task_id] += f" {number}"
        yield f" {number}"
        if not number and task_id in gates:
            gates[task_id].wait()
        time.sleep(pace)
    if is_silent:
        stopped.wait()


@chatstop.login_required
def go() -> dict[str, str]:
    """Let an answer go on that waits."""
    gates[request.get_json()["task"]].set()
    return {"result": "success"}


@chatstop.login_required
def conversation() -> dict[str, str]:
    """Return the text so far."""
    return {"answer": texts.get(request.get_json()["task"], "")}


@chatstop.login_required
def bare() -> Response:
    """Stream a piece and then nothing, as a view of Flask's alone does."""

    def silence() -> Iterator[str]:
        yield 'data: {"answer": "piece"}\n\n'
        threading.Event().wait()

    return Response(silence(), mimetype="text/event-stream")

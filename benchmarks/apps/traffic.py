"""The app that ``traffic`` sends its load to: answers that a model's server writes."""

import gc
import os
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import httpx
from flask import Flask, Response, current_app, request

from flask_chatstop import ChatStop, GenerationEnd, chat_response

chatstop = ChatStop()


def create_app() -> Flask:
    """Make the app; its settings are its environment."""
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config["CHATSTOP_API_KEYS"] = {"demo-key": "demo"}
    app.register_blueprint(chatstop, url_prefix="/v1")
    app.add_url_rule("/v1/chat-messages", view_func=send_message, methods=["POST"])
    app.add_url_rule("/objects", view_func=count_objects)
    app.extensions["model"] = httpx.Client(verify=False, trust_env=False, timeout=30)
    ends = os.open(app.config["TRAFFIC_ENDS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    app.extensions["note"] = partial(note, ends)
    return app


@chatstop.login_required
def send_message() -> Response:
    """Pass on what the model says, over a connection of the answer's own."""
    task = chatstop.start(user=request.get_json()["user"])
    model: httpx.Client = current_app.extensions["model"]
    asked = model.build_request("GET", current_app.config["TRAFFIC_MODEL"])
    reply = model.send(asked, stream=True)
    on_end = current_app.extensions["note"]
    return chat_response(task, pieces(reply), upstream=reply, on_end=on_end)


def count_objects() -> dict[str, int]:
    """Count the objects that Python's garbage collector knows and that are in use."""
    gc.collect()
    return {"objects": len(gc.get_objects())}


def pieces(reply: httpx.Response) -> Iterator[str]:
    """Give what the model says, and close its connection whatever happens."""
    with closing(reply):
        yield from reply.iter_text()


def note(ends: int, end: GenerationEnd) -> None:
    """Append an end to the file that all workers share."""
    os.write(ends, f"{end.task_id} {end.reason}\n".encode())

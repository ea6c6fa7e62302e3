"""A small chat app with nothing but httpx beside the package, for every kind of server.

Its settings are its environment. ``PROVIDER`` is the URL of the model.
"""

import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
from flask import Flask, Response, request

from flask_chatstop import ChatStop, GenerationEnd, chat_response
from tests.support import worker_choice

chatstop = ChatStop()


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config["CHATSTOP_API_KEYS"] = {"demo-key": "demo"}
    app.register_blueprint(chatstop, url_prefix="/v1")
    app.add_url_rule("/v1/chat-messages", view_func=send_message, methods=["POST"])
    worker_choice.offer(app)
    return app


@chatstop.login_required
def send_message() -> Response:
    body = request.get_json()
    task = chatstop.start(user=body["user"])
    answer: Any = async_pieces() if body.get("async") else pieces()
    heartbeat = float(os.environ.get("HEARTBEAT", "10"))
    return chat_response(task, answer, on_end=report, heartbeat=heartbeat)


def pieces() -> Iterator[str]:
    """Read what a model says, without a word about hanging up."""
    with httpx.stream("POST", os.environ["PROVIDER"], timeout=None) as reply:
        yield from filter(None, map(token, reply.iter_lines()))


async def async_pieces() -> AsyncIterator[str]:
    """Read it from an event loop."""
    async with (
        httpx.AsyncClient(timeout=None) as client,
        client.stream("POST", os.environ["PROVIDER"]) as reply,
    ):
        async for line in reply.aiter_lines():
            if text := token(line):
                yield text


def token(line: str) -> str:
    """Return the token of an event of OpenAI's."""
    _, found, rest = line.partition('"content": "')
    return rest.partition('"')[0] if found else ""


def report(end: GenerationEnd) -> None:
    print(f"{end.reason}: {end.text}", flush=True)

"""An app whose answers come from async sources, which tell of their ends."""

import asyncio
import os
from collections.abc import AsyncIterator

from flask import Flask, Response, current_app, request

from flask_chatstop import ChatStop, chat_response
from tests.support.apps import start

chatstop = ChatStop()
#: What the master streams, for as long as it runs.
kept: list[object] = []


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config["CHATSTOP_API_KEYS"] = {"demo-key": "demo"}
    app.register_blueprint(chatstop, url_prefix="/v1")
    app.add_url_rule("/v1/chat-messages", view_func=send_message, methods=["POST"])
    if app.config.get("STREAMS_IN_MASTER"):
        stream = start(app, chatstop).stream(ticks())
        next(stream)
        kept.append(stream)
    return app


@chatstop.login_required
def send_message() -> Response:
    task = chatstop.start(user=request.get_json()["user"])
    heartbeat = current_app.config.get("HEARTBEAT", 0.1)
    return chat_response(task, pieces(), heartbeat=heartbeat)


async def pieces() -> AsyncIterator[str]:
    """Give a piece, and then nothing until the end, which takes a moment."""
    try:
        yield "One "
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.5)
        await asyncio.to_thread(say, "saved")


async def ticks() -> AsyncIterator[str]:
    """Give a piece, and then tell 20 times a second that it runs."""
    try:
        yield "One "
        while True:
            say("tick")
            await asyncio.sleep(0.05)
    finally:
        say("ended")


def say(word: str) -> None:
    # In one call: print() may mix the lines of two threads.
    os.write(1, f"{word} by {os.getpid()}\n".encode())

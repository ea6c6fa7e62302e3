"""The app that ``growth`` measures: streams of a silent model, ours and bare ones."""

import asyncio
import json
import queue
import threading
from collections.abc import AsyncIterator, Iterator

import httpx2
import openai
from flask import Flask, Response, current_app, request

from flask_chatstop import ChatStop, chat_response
from flask_chatstop.generation.loop import source_loop

chatstop = ChatStop()

# asyncio holds its tasks weakly: the garbage collector would end them.
_on_the_loop: "set[asyncio.Task[None]]" = set()


def create_app() -> Flask:
    """Make the app; its backend comes from ``FLASK_CHATSTOP_BACKEND``."""
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config["CHATSTOP_API_KEYS"] = {"demo-key": "demo"}
    app.register_blueprint(chatstop, url_prefix="/v1")
    app.add_url_rule("/v1/chat-messages", view_func=stoppable, methods=["POST"])
    app.add_url_rule("/bare", view_func=bare, methods=["POST"])
    app.add_url_rule("/read-ahead", view_func=read_ahead, methods=["POST"])
    app.add_url_rule("/on-a-loop", view_func=on_a_loop, methods=["POST"])
    limits = httpx2.Limits(max_connections=None)
    app.extensions["model"] = openai.OpenAI(
        base_url=app.config.get("MODEL_URL"),
        api_key="any",
        http_client=httpx2.Client(timeout=None, limits=limits),
    )
    app.extensions["async_model"] = openai.AsyncOpenAI(
        base_url=app.config.get("MODEL_URL"),
        api_key="any",
        http_client=httpx2.AsyncClient(timeout=None, limits=limits),
    )
    return app


@chatstop.login_required
def stoppable() -> Response:
    """Stream an answer until it is stopped, as the README's app does."""
    body = request.get_json()
    task = chatstop.start(user=body["user"])
    if body.get("kind") == "async":
        source = async_pieces() if "model" in body else async_silence()
        return chat_response(task, source, heartbeat=3600.0)
    if "model" not in body:
        return chat_response(task, silence(), heartbeat=3600.0)
    reply = ask_model()
    return chat_response(task, pieces(reply), upstream=reply, heartbeat=3600.0)


@chatstop.login_required
def bare() -> Response:
    """Stream the same as a view of Flask's alone does."""
    return events(pieces(ask_model()) if "model" in request.get_json() else silence())


@chatstop.login_required
def read_ahead() -> Response:
    """Stream the same, read by a thread of its own as plainly as can be."""
    items: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for piece in silence():
            items.put(piece)

    threading.Thread(target=read, daemon=True).start()
    return events(iter(items.get, ""))


@chatstop.login_required
def on_a_loop() -> Response:
    """Stream an async source, read by an asyncio task as plainly as can be."""
    items: queue.SimpleQueue[str] = queue.SimpleQueue()

    async def read() -> None:
        async for piece in async_silence():
            items.put(piece)

    def begin() -> None:
        _on_the_loop.add(asyncio.create_task(read()))

    source_loop().loop.call_soon_threadsafe(begin)
    return events(iter(items.get, ""))


def events(source: Iterator[str]) -> Response:
    """Make events of a source."""
    text = (f"data: {json.dumps({'answer': piece})}\n\n" for piece in source)
    return Response(text, mimetype="text/event-stream")


def silence() -> Iterator[str]:
    """Give a piece, and then nothing, without asking anybody."""
    yield "piece"
    threading.Event().wait()


async def async_silence() -> AsyncIterator[str]:
    """Do the same as an async source."""
    yield "piece"
    await asyncio.Event().wait()


async def async_pieces() -> AsyncIterator[str]:
    """Give the text of an answer of a provider's, as an async source."""
    model: openai.AsyncOpenAI = current_app.extensions["async_model"]
    reply = await model.chat.completions.create(
        model="loopback", messages=[{"role": "user", "content": "hi"}], stream=True
    )
    yield "piece"
    async for chunk in reply:
        yield chunk.choices[0].delta.content or ""


def ask_model() -> openai.Stream[openai.types.chat.ChatCompletionChunk]:
    """Begin an answer of a provider's, which is silent after a few words."""
    model: openai.OpenAI = current_app.extensions["model"]
    return model.chat.completions.create(
        model="loopback", messages=[{"role": "user", "content": "hi"}], stream=True
    )


def pieces(
    reply: openai.Stream[openai.types.chat.ChatCompletionChunk],
) -> Iterator[str]:
    """Give the text of an answer, after a piece of our own."""
    yield "piece"
    for chunk in reply:
        yield chunk.choices[0].delta.content or ""

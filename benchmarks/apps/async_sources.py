"""The app that ``async_sources`` measures: the same sources, async and sync."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import httpx2
import openai
from flask import Flask, Response, request
from openai.types.chat import ChatCompletionUserMessageParam

from flask_chatstop import ChatStop, chat_response

chatstop = ChatStop()
_LIMITS = httpx2.Limits(max_connections=None)
_QUESTION: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "hi"}]
_clients: list[openai.OpenAI] = []
_async_clients: list[openai.AsyncOpenAI] = []


def create_app() -> Flask:
    """Make the app; its backend comes from ``FLASK_CHATSTOP_BACKEND``."""
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config["CHATSTOP_API_KEYS"] = {"demo-key": "demo"}
    app.register_blueprint(chatstop, url_prefix="/v1")
    app.add_url_rule("/v1/chat-messages", view_func=stoppable, methods=["POST"])
    app.add_url_rule("/bare", view_func=bare, methods=["POST"])
    _clients.append(
        openai.OpenAI(
            api_key="any",
            http_client=httpx2.Client(timeout=None, limits=_LIMITS),
        )
    )
    _async_clients.append(async_client())
    return app


def async_client() -> openai.AsyncOpenAI:
    """Make the client that all async sources share."""
    http_client = httpx2.AsyncClient(timeout=None, limits=_LIMITS)
    return openai.AsyncOpenAI(api_key="any", http_client=http_client)


@chatstop.login_required
def stoppable() -> Response:
    """Stream an answer of a kind until it is stopped."""
    body = request.get_json()
    task = chatstop.start(user=body["user"])
    provider = body.get("provider")
    source: Iterator[str] | AsyncIterator[str]
    if body["kind"] == "async":
        source = (
            async_pieces(_async_clients[0], provider) if provider else async_silence()
        )
    else:
        source = pieces(provider) if provider else silence()
    return chat_response(task, source, heartbeat=3600.0)


@chatstop.login_required
def bare() -> dict[str, str]:
    """Answer as the stop route does, without a stop."""
    request.get_json()["user"]
    return {"result": "success"}


def silence() -> Iterator[str]:
    """Give a piece, and then nothing, without asking anybody."""
    yield "piece"
    threading.Event().wait()


async def async_silence() -> AsyncIterator[str]:
    """Do the same as an async source."""
    yield "piece"
    await asyncio.Event().wait()


def pieces(provider: str) -> Iterator[str]:
    """Give a piece of our own when the answer has begun, and then its text."""
    client = _clients[0].with_options(base_url=provider)
    reply = client.chat.completions.create(
        model="loopback", messages=_QUESTION, stream=True
    )
    yield "piece"
    for chunk in reply:
        yield chunk.choices[0].delta.content or ""


async def async_pieces(client: openai.AsyncOpenAI, provider: str) -> AsyncIterator[str]:
    """Do the same as an async source."""
    reply = await client.with_options(base_url=provider).chat.completions.create(
        model="loopback", messages=_QUESTION, stream=True
    )
    yield "piece"
    async for chunk in reply:
        yield chunk.choices[0].delta.content or ""

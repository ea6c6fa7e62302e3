"""A chat of fastapi-resumable-stream, as its README makes one.

Its Redis comes from ``RESUMABLE_STREAM_REDIS``.
"""

import hashlib
import os
from collections.abc import AsyncIterator

import httpx
from fastapi import FastAPI, Response
from fastapi_resumable_stream import (
    ActiveStreamRegistry,
    ResumableStream,
    StopController,
    start_conversation_stream,
    stop_conversation_stream,
)
from redis.asyncio import Redis


def create_app() -> FastAPI:
    """Make the app; a prompt is the URL of an answer of the provider's."""
    app = FastAPI()
    models = httpx.AsyncClient(timeout=None)
    redis = Redis.from_url(os.environ["RESUMABLE_STREAM_REDIS"])
    stream, registry = ResumableStream(redis), ActiveStreamRegistry(redis)
    stop = StopController(redis)

    async def call_llm(prompt: str) -> AsyncIterator[str]:
        async with models.stream("GET", prompt) as reply:
            async for piece in reply.aiter_text():
                yield f"data: {piece}\n\n"

    @app.post("/chat/{conversation_id}/stream")
    async def start_stream(conversation_id: str, prompt: str) -> Response:
        digest = hashlib.sha256(prompt.encode()).hexdigest()
        response: Response = await start_conversation_stream(
            stream,
            registry,
            stop,
            conversation_id,
            f"{conversation_id}:{digest}",
            producer=lambda: call_llm(prompt),
        )
        return response

    @app.post("/chat/{conversation_id}/stop")
    async def stop_stream(conversation_id: str) -> dict[str, bool]:
        stopped = await stop_conversation_stream(registry, stop, conversation_id)
        return {"stopped": stopped}

    return app

"""What Dify's clients talk to: the example, and an agent that sends every event.

The model of the example is served beside it. What it does is the question: ``finish``,
``fail``, or anything else, after which it is silent.
"""

import json
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from flask import Flask, Response, request

from flask_chatstop import ChatStop, stream_response
from flask_chatstop.formats import DifyEvents, sse_frame

KEYS = {"demo-key": "demo"}

#: Every event that an app may send between, with the fields that typed clients want.
EVENTS: list[dict[str, object]] = [
    {
        "event": "agent_thought",
        "id": "thought-1",
        "position": 1,
        "thought": "I search for it.",
        "observation": "",
        "tool": "search",
        "tool_labels": {"search": "Search"},
        "tool_input": '{"q": "chairs"}',
        "message_files": ["file-1"],
    },
    {"event": "agent_message", "answer": "One chair."},
    {
        "event": "message_file",
        "id": "file-1",
        "type": "image",
        "belongs_to": "assistant",
        "url": "http://127.0.0.1/chair.png",
    },
    {"event": "tts_message", "audio": "AAAA"},
    {"event": "tts_message_end", "audio": ""},
    {"event": "message_replace", "answer": "Two chairs."},
]
RESOURCE: dict[str, object] = {
    "position": 1,
    "dataset_id": "dataset-1",
    "dataset_name": "Furniture",
    "document_id": "document-1",
    "document_name": "Chairs",
    "segment_id": "segment-1",
    "score": 0.9,
    "content": "A chair has four legs.",
}
USAGE: dict[str, object] = {
    "prompt_tokens": 1000,
    "prompt_unit_price": Decimal("0.0000025"),
    "prompt_price_unit": Decimal("1"),
    "prompt_price": 0.0000025,
    "completion_tokens": 2,
    "total_price": Decimal("1E-7"),
    "currency": "EUR",
}


class Pinging(DifyEvents):
    """Dify's events, told when a ping is sent."""

    def __init__(self) -> None:
        metadata = {"usage": USAGE, "retriever_resources": [RESOURCE]}
        super().__init__(metadata=metadata)
        self.has_pinged = threading.Event()

    def ping(self) -> bytes:
        self.has_pinged.set()
        return super().ping()


def agent(events: str | None) -> Flask:
    """Return an app whose answers hold every event, a ping first.

    :param events: where answers are kept.
    """
    app = Flask("agent")
    app.config["CHATSTOP_API_KEYS"] = KEYS
    app.config["CHATSTOP_EVENTS"] = events
    chatstop = ChatStop()

    @app.post("/v1/chat-messages")
    @chatstop.login_required
    def send_message() -> Response:
        task = chatstop.start(user=request.get_json()["user"])
        events = Pinging()

        def pieces() -> Iterator[dict[str, object]]:
            assert events.has_pinged.wait(30)
            yield from EVENTS

        return stream_response(task, pieces(), format=events, heartbeat=0.05)

    app.register_blueprint(chatstop, url_prefix="/v1")
    return app


def model(is_over: threading.Event) -> Flask:
    """Return the model's provider, which speaks as OpenAI's does."""
    app = Flask("model")

    @app.post("/chat/completions")
    def complete() -> Any:
        body = request.get_json()
        query = body["messages"][0]["content"]
        if query == "fail":
            return {"error": {"message": "The secret of the model."}}, 400
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        common = {"id": "chatcmpl-1", "created": 1, "model": "any"}
        if not body.get("stream"):
            message = {"role": "assistant", "content": "One two"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            kind = "chat.completion"
            return {**common, "object": kind, "choices": [choice], "usage": usage}
        assert body["stream_options"] == {"include_usage": True}

        def chunks() -> Iterator[bytes]:
            for text in ("One ", "two"):
                choice = {"index": 0, "delta": {"content": text}}
                yield sse_frame(json.dumps({**common, "choices": [choice]}))
            if query != "finish":
                is_over.wait(30)
                return
            yield sse_frame(json.dumps({**common, "choices": [], "usage": usage}))
            yield b"data: [DONE]\n\n"

        return Response(chunks(), mimetype="text/event-stream")

    return app

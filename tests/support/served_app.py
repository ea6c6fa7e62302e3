"""The app that tests run under real servers; its settings are its environment."""

import os
from collections.abc import Iterator

import openai
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
    task = chatstop.start(user=request.get_json()["user"])
    client = openai.OpenAI(api_key="any")
    reply = client.chat.completions.create(
        model="loopback", messages=[{"role": "user", "content": "hi"}], stream=True
    )

    def pieces() -> Iterator[str | None]:
        for chunk in reply:
            yield chunk.choices[0].delta.content

    return chat_response(
        task,
        pieces(),
        upstream=reply,
        on_end=report,
        heartbeat=float(os.environ.get("HEARTBEAT", "10")),
    )


def report(end: GenerationEnd) -> None:
    print(f"{end.reason}: {end.text}", flush=True)

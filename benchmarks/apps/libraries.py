"""The app that ``library_stops`` measures: it asks a model by its client library.

Runs in the environment of the client libraries, so it imports nothing of the tests'.
"""

from collections.abc import Iterator

import openai
from flask import Flask, Response, request

from flask_chatstop import ChatStop, GenerationTask, chat_response

chatstop = ChatStop()


def create_app() -> Flask:
    """Make the app; its backend comes from ``FLASK_CHATSTOP_BACKEND``."""
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config["CHATSTOP_API_KEYS"] = {"demo-key": "demo"}
    app.register_blueprint(chatstop, url_prefix="/v1")
    app.add_url_rule("/v1/chat-messages", view_func=send_message, methods=["POST"])
    app.add_url_rule("/bare", view_func=bare, methods=["POST"])
    return app


@chatstop.login_required
def send_message() -> Response:
    """Stream what the model says, without an upstream."""
    body = request.get_json()
    task = chatstop.start(user=body["user"])
    source = {"openai": ask_openai, "LangChain": ask_langchain}[body["library"]]
    return chat_response(task, source(task, body["provider"]))


def _closes_by_itself(task: GenerationTask) -> bool:
    return not task.app.config.get("CHATSTOP_TRACK_CALLS", True)


def ask_openai(task: GenerationTask, url: str) -> Iterator[str | None]:
    """Ask as openai's users do."""
    client = openai.OpenAI(base_url=url, api_key="any")
    if _closes_by_itself(task):
        task.on_stop(client.close)
    stream = client.chat.completions.create(
        model="loopback", messages=[{"role": "user", "content": "hello"}], stream=True
    )
    if _closes_by_itself(task):
        task.on_stop(stream.close)
    for chunk in stream:
        yield chunk.choices[0].delta.content


def ask_langchain(task: GenerationTask, url: str) -> Iterator[str]:
    """Ask as LangChain's users do."""
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model="loopback", base_url=url, api_key="any")
    if _closes_by_itself(task):
        task.on_stop(model.root_client.close)
    for chunk in model.stream("hello"):
        yield chunk.text


@chatstop.login_required
def bare() -> dict[str, str]:
    """Answer as the stop route does, without a stop."""
    request.get_json()["user"]
    return {"result": "success"}

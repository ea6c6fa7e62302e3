"""A chat that can be stopped: run it, talk to it, stop it.

::

    python example_app.py [--port 5000]
    gunicorn --threads 100 "example_app:create_app()"

Its chat page is at http://127.0.0.1:5000, and its API is below ``/v1``. Settings are
environment variables, like ``FLASK_CHATSTOP_API_KEYS='{"my-key": "my-app"}'``.

The model is a built-in one that needs no network, or any OpenAI-compatible server:
set ``OPENAI_BASE_URL``, ``OPENAI_API_KEY`` and ``OPENAI_MODEL``.
"""

import argparse
import functools
import os
import signal
import time
import uuid
from collections.abc import Generator, Mapping
from typing import Any

import openai
from flask import Flask, Response, abort, request

from example.web import add_page
from flask_chatstop import ChatStop, GenerationEnd, chat_response, current_task
from flask_chatstop.formats import dify_usage

chatstop = ChatStop()


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Make the app.

    :param config: settings that win over those of the environment.
    """
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config.update(config or {})
    if not app.config.get("CHATSTOP_API_KEYS"):
        app.config["CHATSTOP_API_KEYS"] = {"demo-key": "demo"}
        print("FLASK_CHATSTOP_API_KEYS is not set; the API key is demo-key", flush=True)
    choose_stores(app)
    app.register_blueprint(chatstop, url_prefix="/v1")
    app.add_url_rule("/v1/chat-messages", view_func=send_message, methods=["POST"])
    add_page(app, ask)
    return app


def choose_stores(app: Flask) -> None:
    """Choose where tasks and their answers are kept, unless the settings say it."""
    backend = app.config.get("CHATSTOP_BACKEND")
    if not backend:
        # Files that every worker of this host shares. Answers have one of their own,
        # so that what is written of them does not meet the stops.
        os.makedirs(app.instance_path, exist_ok=True)
        app.config["CHATSTOP_BACKEND"] = f"sqlite:///{app.instance_path}/chatstop.db"
        backend = f"sqlite:///{app.instance_path}/events.db"
    if isinstance(backend, str):
        # The page comes back to an answer that runs.
        app.config.setdefault("CHATSTOP_EVENTS", backend)


@chatstop.login_required
def send_message() -> Response | dict[str, object]:
    """Answer a message, as a stream unless ``response_mode`` is ``blocking``."""
    try:
        body = request.get_json()
    except RecursionError:
        abort(400, "The body is nested beyond reason.")
    if not isinstance(body, dict) or not isinstance(body.get("query"), str):
        abort(400, "The body must be a JSON object with a query and a user.")
    if body.get("response_mode", "streaming") == "blocking":
        return answer_at_once(body["query"], body.get("conversation_id"))
    return stream_answer(body["query"], body.get("user"), body.get("conversation_id"))


def stream_answer(query: str, user: str | None, conversation_id: object) -> Response:
    """Stream an answer that its user can stop."""
    # From here on it can be stopped: before the first token, and while the model
    # takes its time to answer at all.
    task = chatstop.start(user=user)
    return chat_response(task, ask(query), on_end=save, conversation_id=conversation_id)


def ask(query: str) -> Generator[str, None, None]:
    """Yield the pieces of an answer.

    The model is asked when the first piece is read, so that the client has its task
    id by then. A stop hangs up on it.
    """
    if "OPENAI_BASE_URL" not in os.environ:
        yield from built_in_model(query)
        return
    reply = ask_model(query, stream=True, stream_options={"include_usage": True})
    for chunk in reply:
        if chunk.usage:
            current_task.report_usage(chunk.usage)
        if chunk.choices:
            yield chunk.choices[0].delta.content or ""


def save(end: GenerationEnd) -> None:
    """Keep the answer, whole or partial: an app of yours writes it to its database."""
    print(f"{end.message_id} {end.reason}: {end.text}", flush=True)


def answer_at_once(query: str, conversation_id: object) -> dict[str, object]:
    """Give the whole answer in one JSON object; such a generation cannot be stopped."""
    began = time.monotonic()
    usage = None
    if "OPENAI_BASE_URL" in os.environ:
        reply = ask_model(query, stream=False)
        text, usage = reply.choices[0].message.content or "", reply.usage
    else:
        text = "".join(built_in_model(query, pause=0))
    message_id = str(uuid.uuid4())
    return {
        "event": "message",
        "task_id": str(uuid.uuid4()),
        "id": message_id,
        "message_id": message_id,
        "conversation_id": str(conversation_id or uuid.uuid4()),
        "mode": "chat",
        "answer": text,
        "metadata": {
            "usage": dify_usage(usage, latency=time.monotonic() - began),
            "retriever_resources": [],
        },
        "created_at": int(time.time()),
    }


def ask_model(query: str, **options: Any) -> Any:
    """Ask the OpenAI-compatible server that the environment names."""
    return model_client().chat.completions.create(
        model=os.environ.get("OPENAI_MODEL", "gpt-4o-mini"),
        messages=[{"role": "user", "content": query}],
        **options,
    )


@functools.cache
def model_client() -> openai.OpenAI:
    """Give the client of this process, with its connection pool."""
    return openai.OpenAI()


def built_in_model(query: str, pause: float = 0.2) -> Generator[str, None, None]:
    """Count to three hundred, slowly enough to be stopped by hand."""
    yield f"You said {query!r}. Let me count to three hundred: "
    for number in range(1, 301):
        time.sleep(pause)
        yield f"{number} "


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A chat that can be stopped.")
    parser.add_argument("--port", type=int, default=5000)
    # As Ctrl-C does it: the answers that run are reported as ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    create_app().run(port=parser.parse_args().port)

"""The app that the faults befall: it streams a model's answer and journals each end.

Its settings are its environment, and what it is asked for stands in the body.
"""

import functools
import json
import os
import threading
import time
from collections.abc import Iterator

import httpx
from flask import Flask, Response, request

from flask_chatstop import ChatStop, GenerationEnd, GenerationTask, chat_response
from tests.support import worker_choice

chatstop = ChatStop()


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config["CHATSTOP_API_KEYS"] = {"demo-key": "demo", "other-key": "other"}
    app.register_blueprint(chatstop, url_prefix="/v1")
    app.add_url_rule("/v1/chat-messages", view_func=send_message, methods=["POST"])
    worker_choice.offer(app)
    return app


@chatstop.login_required
def send_message() -> Response:
    body = request.get_json()
    task = chatstop.start(user=body["user"], task_id=body.get("task_id"))
    if body.get("blocks") == "on_stop":
        task.on_stop(threading.Event().wait)
    if body.get("prepares"):
        prepare(task)
    if "interrupts" in body:
        interrupt(body["interrupts"])
        return chat_response(task, count(), on_end=journal, on_disconnect="continue")
    replies: list[httpx.Response] = []

    def pieces() -> Iterator[str]:
        url = f"{os.environ['MODEL_URL']}/chat/completions"
        with model().stream("POST", url, json={}) as reply:
            replies.append(reply)
            for line in reply.iter_lines():
                if line.startswith("data: {"):
                    chunk = json.loads(line.removeprefix("data: "))
                    yield chunk["choices"][0]["delta"]["content"]

    def on_end(end: GenerationEnd) -> None:
        journal(end)
        if body.get("blocks") == "on_end":
            threading.Event().wait()

    return chat_response(
        task,
        pieces(),
        upstream=lambda: replies[-1] if replies else None,
        on_end=on_end,
        heartbeat=float(os.environ.get("HEARTBEAT", "10")),
    )


def interrupt(kind: str) -> None:
    """Have the greenlet that serves this request interrupted in a moment."""
    import gevent

    if kind == "timeout":
        gevent.Timeout(0.2).start()
    else:
        gevent.spawn_later(0.2, gevent.getcurrent().kill)


def count() -> Iterator[str]:
    for number in range(10):
        time.sleep(0.1)
        yield f"{number} "


def prepare(task: GenerationTask) -> None:
    """Look for what the answer is to be about, which takes too long."""
    stopped = threading.Event()
    task.on_stop(stopped.set)
    print(f"Task {task.id} is being prepared.", flush=True)
    assert stopped.wait(30)


@functools.cache
def model() -> httpx.Client:
    # The provider answers one request per connection.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    return httpx.Client(timeout=None, limits=limits, verify=False)


def journal(end: GenerationEnd) -> None:
    """Save how a generation ended, as an app saves its answers."""
    line = {"task_id": end.task_id, "reason": end.reason, "text": end.text[:100]}
    # One write each: several processes append to it.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    file = os.open(os.environ["JOURNAL"], flags)
    os.write(file, json.dumps(line).encode() + b"\n")
    os.close(file)

"""The app that streams from any of the client libraries, and tells what it left.

Runs under gunicorn in an environment of the libraries', so it imports nothing of the
tests' own environment.
"""

import gc
import importlib
import inspect
import os
from typing import Any

from flask import Flask, Response, jsonify, request

from flask_chatstop import ChatStop, GenerationTask, chat_response
from flask_chatstop.generation import async_source, watch
from tests.providers.leftovers import Leftovers
from tests.providers.log_records import LogRecords

chatstop = ChatStop()
records = LogRecords()
leftovers = Leftovers()
#: A worker's threads begin with its first task: one runs all the time, so that they are
#: never taken for a source's.
forever: list[GenerationTask] = []


def create_app() -> Flask:
    records.collect()
    # A source that only waits for a busy processor is not to be logged as blocked. What
    # is blocked is found by what is left.
    watch.BLOCKED_AFTER, watch.THREAD_AFTER = 8.0, 20.0
    async_source.BLOCKED_AFTER = 8.0  # type: ignore[attr-defined]
    app = Flask(__name__)
    app.config["CHATSTOP_API_KEYS"] = {"demo-key": "demo"}
    app.register_blueprint(chatstop, url_prefix="/v1")
    app.add_url_rule("/v1/chat-messages", view_func=send_message, methods=["POST"])
    app.add_url_rule("/debug/begin", view_func=begin, methods=["POST"])
    app.add_url_rule("/debug/left", view_func=left)
    return app


@chatstop.login_required
def send_message() -> Response:
    body = request.get_json()
    task = chatstop.start(user=body["user"])
    source = importlib.import_module(f"tests.providers.{body['module']}").source
    return chat_response(task, source(**_arguments(source, {**body, "task": task})))


def _arguments(source: Any, known: dict[str, object]) -> dict[str, object]:
    """Give a source what it names, as pytest does with a test's fixtures."""
    return {name: known[name] for name in inspect.signature(source).parameters}


@chatstop.login_required
def begin() -> dict[str, int]:
    """Forget what was logged before, and take the threads there are for the app's."""
    if not forever:
        forever.append(chatstop.start(user="nobody"))
        leftovers.begin()
    # An earlier source may have left a client of openai's, and closed its own loop. As
    # garbage the client is closed on the loop that runs by then: that fails, and is
    # logged.
    gc.collect()
    leftovers.wait(10)
    leftovers.begin()
    records.clear()
    return {"pid": os.getpid()}


def left() -> Response:
    """Wait until nothing is left of what came since, and tell what was logged."""
    threads, tasks = leftovers.wait(float(request.args["timeout"]))
    return jsonify(threads=threads, tasks=tasks, records=records.all())

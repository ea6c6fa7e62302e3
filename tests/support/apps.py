"""Apps with the blueprint on them, and tasks that no view has begun."""

from collections.abc import Callable
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from flask_chatstop import ChatStop, GenerationTask
from tests.support.chat import AUTH, KEYS, Chat


def make_app(chatstop: ChatStop | None = None, /, **config: Any) -> Flask:
    app = Flask("app")
    app.config["CHATSTOP_API_KEYS"] = KEYS
    app.config.update(config)
    app.register_blueprint(chatstop or ChatStop(), url_prefix="/v1")
    return app


def start(app: Flask, chatstop: ChatStop, **options: Any) -> GenerationTask:
    with app.test_request_context(headers=AUTH):
        task: GenerationTask = chatstop.login_required(
            lambda: chatstop.start(user="alice", **options)
        )()
        return task


def stop(client: FlaskClient, task_id: str, prefix: str = "/v1") -> int:
    url = f"{prefix}/chat-messages/{task_id}/stop"
    return client.post(url, json={"user": "alice"}, headers=AUTH).status_code


def new_task(chat: Chat) -> GenerationTask:
    with chat.app.test_request_context(headers={"Authorization": "Bearer demo-key"}):
        start: Callable[[], GenerationTask] = chat.chatstop.login_required(
            lambda: chat.chatstop.start(user="alice")
        )
        return start()

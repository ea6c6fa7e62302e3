"""The app that ``route`` and ``chunk`` measure: the stop route beside a bare one."""

from flask import Flask, request
from flask_httpauth import HTTPTokenAuth

from flask_chatstop import ChatStop, GenerationTask


def make_app(
    backend: str = "memory://", events: str | None = None
) -> tuple[Flask, ChatStop]:
    """Make an app with the stop route and a bare one.

    :param events: where answers are kept.
    """
    app = Flask("benchmark")
    app.config["CHATSTOP_API_KEYS"] = {"demo-key": "demo"}
    app.config["CHATSTOP_BACKEND"] = backend
    app.config["CHATSTOP_EVENTS"] = events
    chatstop = ChatStop()
    auth = HTTPTokenAuth("Bearer")

    @auth.verify_token  # type: ignore[untyped-decorator]
    def verify(token: str) -> str | None:
        return {"demo-key": "demo"}.get(token)

    @app.post("/bare/<task_id>")
    @auth.login_required  # type: ignore[untyped-decorator]
    def bare(task_id: str) -> dict[str, str]:
        request.get_json()["user"]
        return {"result": "success"}

    app.register_blueprint(chatstop, url_prefix="/v1")
    return app, chatstop


def start(app: Flask, chatstop: ChatStop) -> GenerationTask:
    """Begin a task as a view does."""
    with app.test_request_context(headers={"Authorization": "Bearer demo-key"}):
        task: GenerationTask = chatstop.login_required(chatstop.start)(user="alice")
        return task

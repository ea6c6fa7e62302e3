"""The server's side of the chat page: a chat of its own, for whoever opens the page.

Its visitors are told apart by Flask's session cookie, so no API key is in the browser.
"""

import uuid
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    current_app,
    jsonify,
    request,
    session,
)

from example.conversations import Conversations
from flask_chatstop import BackendError, ChatStop, SessionAuth, chat_response

#: Yields the chunks of an answer.
Ask = Callable[[str], Generator[str, None, None]]

web = ChatStop("web", auth=SessionAuth("user", app="chat-page"))
page = Blueprint("page", __name__, static_folder="static", static_url_path="/page")


@dataclass(frozen=True, slots=True)
class _Chat:
    ask: Ask
    conversations: Conversations


def add_page(app: Flask, ask: Ask) -> None:
    """Serve the page at ``/``, and what it talks to below ``/web``."""
    path = app.config.get("CHAT_DATABASE") or Path(app.instance_path, "chat.sqlite3")
    conversations = Conversations(Path(path))
    conversations.create()
    app.extensions["chat_page"] = _Chat(ask, conversations)
    app.config["SECRET_KEY"] = app.config["SECRET_KEY"] or conversations.secret_key()
    # Neither is needed for the stop: SessionAuth refuses what other sites send.
    app.config.update(SESSION_COOKIE_HTTPONLY=True, SESSION_COOKIE_SAMESITE="Lax")
    app.register_blueprint(page)
    app.register_blueprint(web, url_prefix="/web")


@page.get("/")
def show() -> Response:
    """Give the page, and a session to whoever has none."""
    session.permanent = True
    session.setdefault("user", uuid.uuid4().hex)
    return page.send_static_file("chat.html")


@page.after_request
def protect(response: Response) -> Response:
    """Let the page load and talk to nothing but this server, in no frame."""
    response.headers["Content-Security-Policy"] = (
        "default-src 'self'; base-uri 'none'; form-action 'self';"
        " frame-ancestors 'none'"
    )
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    return response


@web.get("/chat-messages")
@web.login_required
def conversation() -> Response:
    """Give the visitor's conversation, with the answers that still run."""
    conversations, user = _chat().conversations, session["user"]
    running: list[str] | None = None
    with suppress(BackendError):
        # Before what is kept of them: an end is kept before its task is gone.
        running = [info.record.task_id for info in web.tasks()]
    conversation_id = conversations.current(user)
    response = jsonify(
        conversation_id=conversation_id,
        messages=conversations.of(conversation_id, running),
    )
    response.headers["Cache-Control"] = "no-store"
    return response


@web.post("/conversations")
@web.login_required
def begin_conversation() -> Response:
    """Begin another conversation; the page shows the old one no more.

    Nobody could stop an answer in it that still runs, so it is stopped here.
    """
    if not request.is_json:  # what a form of another site could send
        abort(415)
    web.stop_all()
    _chat().conversations.begin_another(session["user"])
    web.stop_all()  # what another tab has begun in the meantime
    return Response(status=204)


@web.errorhandler(BackendError)
def unavailable(error: BackendError) -> tuple[Response, int]:
    """Tell the page to try again."""
    current_app.logger.error("The store of tasks failed: %s", error)
    return jsonify(code="unavailable"), 503


@web.post("/chat-messages")
@web.login_required
def send_message() -> Response:
    """Answer a message; the answer goes on when the page is left or loaded again."""
    query, shown = read_message()
    chat, user = _chat(), session["user"]
    conversation_id = chat.conversations.current(user)
    if shown not in (None, conversation_id):
        abort(409)
    task = web.start(time_limit=current_app.config.get("CHAT_TIME_LIMIT"))
    message_id = chat.conversations.begin(user, conversation_id, task.id, query)
    if message_id is None:
        abort(409)
    return chat_response(
        task,
        chat.conversations.keeping(message_id, chat.ask(query)),
        on_end=lambda end: chat.conversations.change(message_id, end.reason, end.text),
        on_disconnect="continue",
        message_id=message_id,
        conversation_id=conversation_id,
    )


def read_message() -> tuple[str, str | None]:
    """Read the message, and the conversation that the page shows if it knows one yet.

    Only a script of this site can send such a body.
    """
    request.max_content_length = 64 * 1024
    try:
        body = request.get_json()
    except RecursionError:
        abort(400)
    if not isinstance(body, dict):
        abort(400)
    query, conversation_id = body.get("query"), body.get("conversation_id")
    if not isinstance(query, str) or not query.strip():
        abort(400)
    if not isinstance(conversation_id, str | None):
        abort(400)
    # Half a surrogate pair is JSON but no text.
    return query.encode("utf-8", "replace").decode(), conversation_id


def _chat() -> _Chat:
    chat: _Chat = current_app.extensions["chat_page"]
    return chat

"""The server's side of the chat page: a chat of its own, for whoever opens the page.

Its visitors are told apart by Flask's session cookie, so no API key is in the browser.
"""

import uuid
from collections.abc import Callable, Generator
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
from flask_chatstop import ChatStop, SessionAuth, chat_response

#: Yields the pieces of an answer.
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
    response = jsonify(_chat().conversations.of(session["user"]))
    response.headers["Cache-Control"] = "no-store"
    return response


@web.post("/chat-messages")
@web.login_required
def send_message() -> Response:
    """Answer a message; the answer goes on when the page is left or loaded again."""
    query = read_query()
    chat, task = _chat(), web.start()
    exchange_id = chat.conversations.begin(session["user"], task.id, query)
    return chat_response(
        task,
        chat.conversations.keeping(exchange_id, chat.ask(query)),
        on_end=lambda end: chat.conversations.change(exchange_id, end.reason, end.text),
        on_disconnect="continue",
        message_id=exchange_id,
        conversation_id=session["user"],
    )


def read_query() -> str:
    """Read the message from a body that only a script of this site can send."""
    request.max_content_length = 64 * 1024
    try:
        body = request.get_json()
    except RecursionError:
        abort(400)
    query = body.get("query") if isinstance(body, dict) else None
    if not isinstance(query, str) or not query.strip():
        abort(400)
    # Half a surrogate pair is JSON but no text.
    return query.encode("utf-8", "replace").decode()


def _chat() -> _Chat:
    chat: _Chat = current_app.extensions["chat_page"]
    return chat

import json

import openai
from flask import (
    Blueprint,
    Response,
    render_template,
    request,
    stream_with_context,
    url_for,
)
from flask_login import current_user, login_required

from .extensions import (
    chatstop,  # stop
    db,
)
from .models import Conversation, Message

bp = Blueprint("chat", __name__, url_prefix="/conversations/<int:conversation_id>")


def get_conversation(conversation_id):
    return db.first_or_404(
        db.select(Conversation).filter_by(id=conversation_id, user_id=current_user.id)
    )


def ask_model(history):
    reply = openai.OpenAI().chat.completions.create(
        model="gpt-4o-mini", messages=history, stream=True
    )
    for chunk in reply:
        if chunk.choices and chunk.choices[0].delta.content:
            yield chunk.choices[0].delta.content


@bp.get("")
@login_required
def show(conversation_id):
    return render_template("chat.html", conversation=get_conversation(conversation_id))


@bp.post("/messages")
@login_required
def send(conversation_id):
    conversation = get_conversation(conversation_id)
    message = Message(role="user", content=request.form["message"])
    conversation.messages.append(message)
    db.session.commit()
    return {"stream": url_for(".stream", conversation_id=conversation_id)}, 201


@bp.get("/stream")
@chatstop.login_required  # stop
@login_required
def stream(conversation_id):
    messages = get_conversation(conversation_id).messages
    history = [
        {"role": message.role, "content": message.content} for message in messages
    ]
    db.session.commit()
    tokens = ask_model(history)
    task = chatstop.start()  # stop
    tokens = task.stream(tokens)  # stop

    def events():
        yield f"event: task\ndata: {task.id}\n\n"  # stop
        answer = ""
        for token in tokens:
            answer += token
            yield f"data: {json.dumps(token)}\n\n"
        db.session.add(
            Message(conversation_id=conversation_id, role="assistant", content=answer)
        )
        db.session.commit()
        yield "event: done\ndata: done\n\n"

    return Response(stream_with_context(events()), mimetype="text/event-stream")

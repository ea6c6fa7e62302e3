from flask import Blueprint, redirect, render_template, url_for
from flask_login import current_user, login_required

from .extensions import db
from .models import Conversation

bp = Blueprint("main", __name__)


@bp.get("/")
@login_required
def index():
    return render_template("index.html", conversations=current_user.conversations)


@bp.post("/conversations")
@login_required
def new_conversation():
    conversation = Conversation(user=current_user)
    db.session.add(conversation)
    db.session.commit()
    return redirect(url_for("chat.show", conversation_id=conversation.id))

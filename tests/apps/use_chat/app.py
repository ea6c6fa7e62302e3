import hmac
import json
import os
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

import openai
from flask import Flask, Response, request
from flask_httpauth import HTTPBasicAuth

from flask_chatstop import ChatStop  # stop

app = Flask(__name__)
database = os.environ.get("DATABASE", "chat.db")
passwords = {"alice": os.environ["ALICES_PASSWORD"]}
auth = HTTPBasicAuth()
chatstop = ChatStop(auth=auth, user_loader=auth.current_user)  # stop
app.register_blueprint(chatstop, url_prefix="/api")  # stop


def query(sql, *values):
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        return db.execute(sql, values).fetchall()


query("CREATE TABLE IF NOT EXISTS message (chat, id, role, content)")


@auth.verify_password
def verify_password(username, password):
    known = passwords.get(username)
    if known and hmac.compare_digest(known.encode(), password.encode()):
        return username


def save(*message):
    query("INSERT INTO message VALUES (?, ?, ?, ?)", *message)


def ask_model(messages):
    history = [
        {
            "role": message["role"],
            "content": "".join(part.get("text", "") for part in message["parts"]),
        }
        for message in messages
    ]
    reply = openai.OpenAI().chat.completions.create(
        model="gpt-4o-mini", messages=history, stream=True
    )
    for chunk in reply:
        if chunk.choices and chunk.choices[0].delta.content:
            yield chunk.choices[0].delta.content


def part(**fields):
    return f"data: {json.dumps(fields)}\n\n"


@app.get("/")
@auth.login_required
def page():
    return Path(app.static_folder, "index.html").read_text()


@app.get("/api/chat")
@auth.login_required
def history():
    chat = f"{auth.current_user()}/{request.args['id']}"
    rows = query("SELECT id, role, content FROM message WHERE chat = ?", chat)
    return [
        {"id": key, "role": role, "parts": [{"type": "text", "text": content}]}
        for key, role, content in rows
    ]


@app.post("/api/chat")
@auth.login_required
def answer():
    body = request.get_json()
    chat, asked = f"{auth.current_user()}/{body['id']}", body["messages"][-1]
    save(chat, asked["id"], "user", asked["parts"][0]["text"])
    tokens = ask_model(body["messages"])
    task = chatstop.start()  # stop
    tokens = task.stream(tokens)  # stop

    def parts():
        message_id, text = str(uuid.uuid4()), ""
        yield part(type="start", messageId=message_id)
        yield part(type="message-metadata", messageMetadata={"taskId": task.id})  # stop
        yield part(type="text-start", id="text")
        for token in tokens:
            text += token
            yield part(type="text-delta", id="text", delta=token)
        yield part(type="text-end", id="text")
        save(chat, message_id, "assistant", text)
        yield part(type="finish")
        yield "data: [DONE]\n\n"

    headers = {"x-vercel-ai-ui-message-stream": "v1", "Cache-Control": "no-cache"}
    return Response(parts(), mimetype="text/event-stream", headers=headers)

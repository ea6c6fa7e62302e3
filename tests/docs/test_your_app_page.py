"""The apps on the page "Your app" do what it says of them."""

from pathlib import Path
from types import ModuleType

from flask import Flask, Response

from flask_chatstop import chat_response
from tests.support.chat import Answer, Source
from tests.support.pages import blocks, names_of, run


def test_its_app_with_a_session_is_stopped_by_who_is_logged_in() -> None:
    module = ModuleType("your_app_with_a_session")
    run(blocks("your-app.md", "python")[0], module)
    app: Flask = module.__dict__["app"]
    client = app.test_client()
    body = {"query": "Hello"}
    assert client.post("/chat-messages", json=body).status_code == 401
    client.post("/login")
    answer = Answer(client.post("/chat-messages", json=body))
    url = f"/chat-messages/{answer.task_id}/stop"
    assert app.test_client().post(url, json={}).status_code == 401
    assert client.post(url, json={}).status_code == 200
    assert answer.rest()[-1]["metadata"]["end_reason"] == "stopped"


def test_one_of_its_several_chats_does_not_stop_the_tasks_of_the_other() -> None:
    names, source = names_of("your-app.md"), Source("One ")
    app: Flask = names.create_app()
    names.add_chats(app)

    @app.post("/visitors/chat")
    def ask() -> Response:
        return chat_response(names.visitors.start(), source())

    client = app.test_client()
    with client.session_transaction() as session:
        session["visitor_id"] = "7"
    answer = Answer(client.post("/visitors/chat"))
    with app.app_context():
        every = [names.staff, names.chatstop, names.visitors]
        stops = [each.stop(answer.task_id, user="7", app=app.name) for each in every]
    assert stops == ["missing", "missing", "stopping"]
    source.go_on.set()
    assert answer.rest()[-1]["metadata"]["end_reason"] == "stopped"


def test_its_answer_holds_no_connection_while_the_model_is_silent(
    tmp_path: Path,
) -> None:
    names, source = names_of("your-app.md"), Source("One ")
    db, chatstop = names.db, names.chatstop
    uri = f"sqlite:///{tmp_path / 'chat.db'}"
    app: Flask = names.create_app({"SQLALCHEMY_DATABASE_URI": uri})
    db.init_app(app)

    @app.post("/chat")
    def view() -> Response:
        pieces = names.answer("Hello", source)
        return chat_response(chatstop.start(), pieces, on_end=names.save)

    with app.app_context():
        db.create_all()
        pool = db.engine.pool
    client = app.test_client()
    answer = Answer(client.post("/chat"))
    assert answer.next()["answer"] == "One "
    assert source.is_silent.wait(30)
    assert pool.checkedout() == 0
    client.post(f"/chat-messages/{answer.task_id}/stop", json={})
    answer.rest()
    source.go_on.set()
    with app.app_context():
        [kept] = db.session.scalars(db.select(names.Message))
        assert kept.text == "One "
    with app.app_context():
        db.engine.dispose()

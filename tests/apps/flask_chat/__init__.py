"""A chat as many Flask repositories have one, with a stop added to it.

Each line that the stop needs ends with a comment that says ``stop``. The app works
without these lines too: ``tests/apps/test_flask_chat.py`` takes them away and runs it.
"""

import os

from flask import Flask

from . import auth, chat, main
from .extensions import (
    chatstop,  # stop
    db,
    login_manager,
    migrate,
)


def create_app(config=None):
    app = Flask(__name__)
    app.config["SECRET_KEY"] = os.environ.get("SECRET_KEY", "dev")
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ.get(
        "DATABASE_URL", "sqlite:///chat.db"
    )
    app.config.from_mapping(config)

    db.init_app(app)
    migrate.init_app(app, db, directory=os.path.join(app.root_path, "migrations"))
    login_manager.init_app(app)

    app.register_blueprint(auth.bp)
    app.register_blueprint(main.bp)
    app.register_blueprint(chat.bp)
    app.register_blueprint(chatstop)  # stop
    return app

from flask_login import LoginManager
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

from flask_chatstop import ChatStop, FlaskLoginAuth  # stop

db = SQLAlchemy()
migrate = Migrate()
login_manager = LoginManager()
login_manager.login_view = "auth.login"
chatstop = ChatStop(auth=FlaskLoginAuth())  # stop

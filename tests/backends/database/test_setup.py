import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from psycopg.pq import Conninfo
from sqlalchemy import MetaData, create_engine, text

from flask_chatstop import (
    BackendError,
    ChatStop,
    ConfigurationError,
    StopOutcome,
    backend_from_url,
)
from flask_chatstop.backends.database import DatabaseBackend, task_table
from flask_chatstop.testing import ALICE, new_record

Open = Callable[..., DatabaseBackend]


@pytest.fixture(params=["postgresql_url", "mariadb_url"])
def server_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture(params=["sqlite_url", "postgresql_url", "mariadb_url"])
def url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


def app_with(backend: object) -> Flask:
    app = Flask(__name__)
    app.config.update(CHATSTOP_API_KEYS=["key"], CHATSTOP_BACKEND=backend)
    app.register_blueprint(ChatStop(), url_prefix="/v1")
    return app


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///x.db",
        "postgresql://u@127.0.0.1:1/x",
        "mysql://u@127.0.0.1:1/x",
        "mariadb+pymysql://u@127.0.0.1:1/x",
    ],
)
def test_a_url_picks_the_database_backend_and_nothing_is_connected(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    backend = backend_from_url(url, lease=3, retention=2, timeout=1)
    assert isinstance(backend, DatabaseBackend)
    assert (backend.lease, backend.retention, backend.timeout) == (3, 2, 1)
    app_with(backend)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite+pysqlite:///:memory:",
        "sqlite:///file:x?mode=memory&uri=true",
    ],
)
def test_sqlite_in_memory_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="in memory"):
        backend_from_url(url)


def test_an_engine_on_sqlite_in_memory_is_refused(open_backend: Open) -> None:
    with pytest.raises(ConfigurationError, match="in memory"):
        open_backend(create_engine("sqlite://")).check()


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("postgresql://u@h/x", "psycopg", "postgresql"),
        ("mysql://u@h/x", "pymysql", "mysql"),
        ("mariadb://u@h/x", "pymysql", "mysql"),
    ],
)
def test_a_missing_driver_says_what_to_install(
    url: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError) as raised:
        backend_from_url(url)
    assert f'pip install "flask_chatstop[{extra}]"' in str(raised.value)


def test_without_sqlalchemy_a_database_says_what_to_install() -> None:
    script = """
import sys
sys.modules["sqlalchemy"] = None
from flask_chatstop import ConfigurationError, backend_from_url
backend_from_url("memory://")
try:
    backend_from_url("sqlite:///x.db")
except ConfigurationError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert 'pip install "flask_chatstop[database]"' in done.stdout, done.stderr


def test_a_source_that_is_refused_leaves_no_table_behind() -> None:
    metadata = MetaData()
    with pytest.raises(ConfigurationError):
        DatabaseBackend("nonsense://localhost/", metadata=metadata)
    assert not metadata.tables


@pytest.mark.parametrize(
    "source", [5, None, "postgresql+psycopg2://u@h/x", "oracle://u@h/x", "://"]
)
def test_what_is_no_database_is_refused(source: object, open_backend: Open) -> None:
    with pytest.raises(ConfigurationError):
        open_backend(source)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://alice:s3cret%40@127.0.0.1:1/x",
        "mysql://alice:s3cret%40@127.0.0.1:1/x",
        "mariadb://alice:s3cret%40@127.0.0.1/mysql",
        "postgresql://alice@127.0.0.1:1/x?password=s3cret%40",
        "postgresql://alice:s3cret%40@127.0.0.1/nowhere?application_name=s3cret%40",
    ],
)
def test_a_password_is_in_no_message(url: str, open_backend: Open) -> None:
    backend = open_backend(url)
    with pytest.raises(BackendError) as raised:
        backend.check()
    shown = repr(backend) + "".join(traceback.format_exception(raised.value))
    assert "s3cret" not in shown
    assert raised.value.__cause__ is not None


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u@h/x?connect_timeout=s3cret",
        "mariadb://u@h/x?read_timeout=soon",
        "postgresql://u@h/x?connect_timeout=s3cret",
        "postgresql://u@h/x?keepalives_idle=1.5",
        "sqlite:///x.db?timeout=s3cret",
    ],
)
def test_a_mistyped_option_is_refused_at_registration(url: str) -> None:
    with pytest.raises(ConfigurationError, match="option of the database URL") as error:
        app_with(url)
    assert "s3cret" not in "".join(traceback.format_exception(error.value))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("mysql+pymysql://u:s3cret@h/x?conect_timeout=5", "conect_timeout"),
        ("mariadb://u:s3cret@h/x?ssl_ca=a&readtimeout=s3cret", "readtimeout"),
        ("postgresql+psycopg://u:s3cret@h/x?conect_timeout=5", "conect_timeout"),
        ("postgresql://u@h/x?sslmode=require&pasword=s3cret", "pasword"),
    ],
)
def test_a_misspelt_name_of_an_option_is_named_at_registration(
    url: str, name: str
) -> None:
    advice = f"has the option '{name}', .* did you mean"
    with pytest.raises(ConfigurationError, match=advice) as error:
        app_with(url)
    assert "s3cret" not in "".join(traceback.format_exception(error.value))


def test_every_option_of_a_driver_is_taken() -> None:
    for option in Conninfo.get_defaults():
        backend_from_url(f"postgresql://h/x?{option.keyword.decode()}=5")
    backend_from_url("mysql://h/x?charset=utf8mb4&ssl_ca=a.pem&unix_socket=/a")


@pytest.mark.parametrize("scheme", ["postgresql", "mysql", "mariadb"])
@pytest.mark.parametrize(
    "rest", ["u:a@s3cret@h/x", "u:a@h/s3cret@h/x", "u:a@h?s3cret@h/x", "u@a:s3cret@h/x"]
)
def test_a_password_with_an_unquoted_at_is_refused(scheme: str, rest: str) -> None:
    with pytest.raises(ConfigurationError, match="%40") as raised:
        backend_from_url(f"{scheme}://{rest}")
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))


def test_a_file_and_a_quoted_at_are_taken() -> None:
    backend_from_url("sqlite:////home/a@b/c@d.db")
    backend_from_url("postgresql://u:a%40b@h/x?user=me@corp")


@pytest.mark.parametrize("password", ["a", "e"])
def test_a_short_password_is_not_shown_by_what_is_left_out(
    password: str, open_backend: Open
) -> None:
    backend = open_backend(f"mysql://alice:{password}@127.0.0.1:1/x")
    with pytest.raises(BackendError) as raised:
        backend.check()
    text = str(raised.value).removeprefix(f"{backend.engine.url}")
    assert "***" not in text and "connect" in text


@pytest.mark.parametrize("by_creator", [True, False])
def test_what_an_apps_own_code_says_is_left_out_if_it_may_hold_a_password(
    by_creator: bool, open_backend: Open
) -> None:
    def fail() -> Any:
        raise ValueError("no dialect for oracle://u:s3cret@host")

    engine = create_engine("postgresql+psycopg://", creator=fail)
    backend = open_backend(engine if by_creator else fail)
    with pytest.raises(BackendError, match="ValueError, whose text") as raised:
        backend.check()
    assert "s3cret" not in str(raised.value)


def test_a_dsn_that_a_driver_quotes_is_left_out(open_backend: Open) -> None:
    def connect() -> Any:
        return psycopg.connect("postgres//u:s3cret@host/x")

    backend = open_backend(create_engine("postgresql+psycopg://", creator=connect))
    with pytest.raises(BackendError) as raised:
        backend.check()
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["postgresql:/alice:%s@h/x", "postgresql://alice@h:%s/x"]
)
def test_a_url_that_cannot_be_read_is_not_shown(url: str) -> None:
    secret = "s3cret"
    with pytest.raises(ConfigurationError) as raised:
        backend_from_url(url % secret)
    assert secret not in "".join(traceback.format_exception(raised.value))


def test_a_missing_table_names_the_command(server_url: str, open_backend: Open) -> None:
    backend = open_backend(server_url)
    with backend.engine.connect() as connection:
        connection.execute(text("DROP TABLE chatstop_task"))
    with pytest.raises(BackendError, match="flask chatstop init-db"):
        backend.announce(new_record())
    with pytest.raises(BackendError, match="flask chatstop init-db"):
        backend.check()
    # Not heard either, though no task runs that the table should have.
    closing = threading.Event()
    with pytest.raises(BackendError, match="flask chatstop init-db"):
        backend.listen("worker", list, lambda _: closing.set(), closing)
    assert not closing.is_set()
    result = app_with(backend).test_cli_runner().invoke(args=["chatstop", "init-db"])
    assert result.exit_code == 0, result.output
    assert backend.announce(new_record()) is True


def test_a_missing_directory_is_named(tmp_path: Path, open_backend: Open) -> None:
    backend = open_backend(f"sqlite:///{tmp_path / 'nowhere' / 'x.db'}")
    with pytest.raises(BackendError, match=r"nowhere/x\.db.*directory must exist"):
        backend.check()


def test_the_commands_work_on_every_database(url: str, open_backend: Open) -> None:
    app = app_with(open_backend(url))
    app.register_blueprint(ChatStop("second", source="web-app"), url_prefix="/v2")
    runner = app.test_cli_runner()
    for _ in range(2):
        result = runner.invoke(args=["chatstop", "init-db"])
        assert result.exit_code == 0, result.output
        assert "chatstop_task" in result.output
    result = runner.invoke(args=["chatstop", "purge"])
    assert result.output.startswith("Deleted ")


def test_the_commands_say_why_they_fail(open_backend: Open) -> None:
    runner = app_with(open_backend("mysql://u@127.0.0.1:1/x")).test_cli_runner()
    result = runner.invoke(args=["chatstop", "purge"])
    assert result.exit_code == 1
    assert result.output.startswith(
        "Error: CHATSTOP_BACKEND: mysql+pymysql://u@127.0.0.1:1/x: "
    )
    runner = app_with("memory://").test_cli_runner()
    result = runner.invoke(args=["chatstop", "init-db"])
    assert result.exit_code == 1
    assert "set CHATSTOP_BACKEND" in result.output


def test_a_migration_tool_sees_the_table_and_nothing_to_change_after(
    url: str,
) -> None:
    metadata = MetaData()
    table = task_table(metadata)
    assert DatabaseBackend(url, metadata=metadata).table is table
    engine = create_engine(url)
    with engine.connect() as connection:
        # Other tests have left tables of theirs.
        opts = {
            "compare_type": True,
            "include_name": lambda name, kind, _: kind != "table" or name == table.name,
        }
        context = MigrationContext.configure(connection, opts=opts)
        metadata.drop_all(connection)
        connection.commit()
        added = {change[0] for change in compare_metadata(context, metadata)}
        assert added == {"add_table", "add_index"}
        metadata.create_all(connection)
        connection.commit()
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_flask_sqlalchemys_engine_is_asked_for_in_the_first_request(
    url: str, open_backend: Open
) -> None:
    db = SQLAlchemy()
    backend = open_backend(lambda: db.engine, metadata=db.metadata)
    app = app_with(backend)
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    db.init_app(app)
    with pytest.raises(BackendError, match="outside of application context"):
        backend.check()
    record = new_record()
    with app.app_context():
        db.create_all()
        assert backend.announce(record) is True
    assert backend.stop(record.task_id, ALICE) is StopOutcome.STOPPING
    assert backend.stops(record.worker_id, [record.task_id]) == {record.task_id}
    with app.app_context():
        db.drop_all()
        db.create_all()
        db.engine.dispose()


def test_the_session_of_the_app_is_left_alone(
    postgresql_url: str, open_backend: Open
) -> None:
    engine = create_engine(postgresql_url)
    backend = open_backend(engine)
    with engine.connect() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE mine (x integer)"))
        backend.announce(new_record())
        connection.rollback()
        assert connection.execute(text("SELECT to_regclass('mine')")).scalar() is None
    engine.dispose()

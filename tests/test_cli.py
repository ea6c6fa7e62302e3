"""The commands of ``flask chatstop``, on real stores."""

import configparser
import hashlib
import itertools
import json
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from flask.cli import FlaskGroup

from flask_chatstop import Owner, StopBackend, __main__
from flask_chatstop.backends.database import DatabaseBackend
from flask_chatstop.backends.redis import RedisBackend
from flask_chatstop.cli import commands
from flask_chatstop.events import Record
from flask_chatstop.events.database import DatabaseEventLog
from flask_chatstop.keys import ApiKeys
from flask_chatstop.testing import new_record, wait_until
from flask_chatstop.worker import Worker
from flask_chatstop.worker.processes import workers
from tests.support.apps import make_app
from tests.support.breakable_stores import (
    MariaDBStore,
    MemoryStore,
    PostgreSQLStore,
    RedisStore,
)
from tests.support.chat import OTHER_AUTH, Chat, Source
from tests.support.paths import DOCS, ROOT
from tests.support.servers.mariadb import MariaDBServer
from tests.support.servers.pgbouncer import pgbouncer
from tests.support.servers.redis import RedisServer

BACKENDS = ["sqlite_url", "postgresql_url", "mariadb_url", "redis_url"]


Configure = Callable[[], dict[str, object]]


@pytest.fixture(params=BACKENDS)
def config(request: pytest.FixtureRequest) -> Iterator[Configure]:
    """Configure processes that share a store, each with a backend of its own."""
    url = request.getfixturevalue(request.param)
    backends: list[StopBackend] = []
    if request.param in ("postgresql_url", "mariadb_url"):
        # What other tests of the session have left would be listed too.
        with closing(DatabaseBackend(url)) as store, store.engine.begin() as connection:
            connection.execute(store.table.delete())

    elif request.param == "redis_url":
        prefix = request.getfixturevalue("redis_prefix") + f"{uuid.uuid4().hex}:"

    def configure() -> dict[str, object]:
        if request.param == "redis_url":
            backends.append(RedisBackend(url, prefix=prefix))
        else:
            backends.append(DatabaseBackend(url))
        return {"CHATSTOP_BACKEND": backends[-1]}

    yield configure
    for worker in list(workers):
        if isinstance(worker, Worker) and worker.backend in backends:
            worker.close()


def run(app: Flask, *arguments: str) -> Result:
    return app.test_cli_runner().invoke(args=["chatstop", *arguments])


def test_running_tasks_are_listed_and_stopped_whoever_owns_them(
    config: Configure,
) -> None:
    source = Source("One ")
    chat = Chat(source, config())
    app = make_app(**config())
    answer = chat.ask(user="carol")
    [task] = json.loads(run(app, "list", "--json").output)
    assert task["task_id"] == answer.task_id
    assert (task["app"], task["source"], task["user"]) == (
        "demo",
        "service-api",
        "carol",
    )
    assert task["state"] == "running" and 0 <= task["age"] < 60
    assert f"{answer.task_id}  running" in run(app, "list").output

    result = run(app, "stop", answer.task_id)
    assert result.stdout == f"Stopping {answer.task_id}.\n"
    assert result.stderr == "1 task.\n"
    assert answer.rest()[-1]["metadata"]["end_reason"] == "stopped"
    wait_until(lambda: json.loads(run(app, "list", "--json").output) == [])
    result = run(app, "stop", answer.task_id)
    assert result.exit_code == 1
    assert "No task" in result.output
    source.go_on.set()


def test_a_user_cannot_write_to_the_terminal_of_an_operator(sqlite_url: str) -> None:
    with closing(DatabaseBackend(sqlite_url)) as backend:
        backend.announce(new_record(owner=Owner("app", "api", "\x1b[2Jeve\n")))
        listed = run(make_app(CHATSTOP_BACKEND=backend), "list").output
    assert "user '\\x1b[2Jeve\\n'" in listed
    assert "\x1b" not in listed


def test_all_tasks_of_a_user_are_stopped(config: Configure) -> None:
    source = Source("One ")
    chat = Chat(source, config())
    app = make_app(**config())
    answers = [chat.ask(), chat.ask(), chat.ask(auth=OTHER_AUTH), chat.ask(user="bob")]
    alices = sorted(answer.task_id for answer in answers[:2])
    result = run(app, "stop", "--user", "alice", "--app", "demo", "--json")
    assert sorted(json.loads(result.output)["stopping"]) == alices
    for answer in answers[:2]:
        assert answer.rest()[-1]["metadata"]["end_reason"] == "stopped"
    result = run(app, "stop", "--user", "alice")
    assert f"Stopping {answers[2].task_id}." in result.output
    assert answers[2].rest()[-1]["metadata"]["end_reason"] == "stopped"
    assert not chat.tasks[3].stopped
    result = run(app, "stop", "--all", "--app", "nobody's")
    assert (result.stdout, result.stderr) == ("", "0 tasks.\n")
    result = run(app, "stop", "--all")
    assert f"Stopping {answers[3].task_id}." in result.output
    assert answers[3].rest()[-1]["metadata"]["end_reason"] == "stopped"
    source.go_on.set()


@pytest.mark.parametrize("names", [["--user", ""], ["--user", "alice", "--app", ""]])
def test_an_empty_name_is_no_user_without_tasks(names: list[str]) -> None:
    result = run(make_app(), "stop", *names)
    assert result.exit_code == 2
    assert "this one is empty" in result.output


def test_check_times_the_store_and_the_doorbell(config: Configure) -> None:
    app = make_app(**config())
    times = json.loads(run(app, "check", "--json").output)
    assert 0 < times["store_seconds"] < 5 and 0 < times["doorbell_seconds"] < 5
    assert times["doorbell_is_polled"] is False
    assert "A stop is heard within" in run(app, "check").output
    assert json.loads(run(app, "list", "--json").output) == []


def test_check_tells_that_no_notification_arrives_behind_a_pooler(
    postgresql_url: str,
) -> None:
    with pgbouncer(postgresql_url) as pooled:
        app = make_app(CHATSTOP_BACKEND=pooled)
        assert "No notification arrives" in run(app, "check").output
        assert json.loads(run(app, "check", "--json").output)["doorbell_is_polled"]


def test_check_tells_when_the_store_is_away() -> None:
    result = run(make_app(CHATSTOP_BACKEND="redis://127.0.0.1:1"), "check")
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")


@pytest.fixture(params=["postgresql_url", "own_mariadb", "server"])
def read_only(request: pytest.FixtureRequest) -> Iterator[StopBackend]:
    """Give a backend on a store that answers, and takes no writes."""
    found = request.getfixturevalue(request.param)
    store: MemoryStore
    if isinstance(found, RedisServer):
        store = RedisStore(found)
    elif isinstance(found, MariaDBServer):
        store = MariaDBStore(found.url, 3306)
    else:
        store = PostgreSQLStore(found, 5432)
    store.make_read_only()
    with closing(store.open()) as backend:
        yield backend
    store.make_writable()
    store.close()


def test_check_tells_when_the_store_takes_no_writes(read_only: StopBackend) -> None:
    result = run(make_app(CHATSTOP_BACKEND=read_only), "check")
    assert result.exit_code == 1
    assert re.match(r"Error: .*read.only", result.output)


def test_a_new_key_is_let_in_by_its_entry() -> None:
    output = run(make_app(), "new-key").output
    key, entry = (line.split()[-1] for line in output.splitlines())
    assert entry == "sha256:" + hashlib.sha256(key.encode()).hexdigest()
    assert ApiKeys({entry: "app"}).app_of(key) == "app"
    assert run(make_app(), "new-key").output != output


@pytest.fixture
def app_without_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in the folder of an app that cannot be configured without a key."""
    lines = "import flask, flask_chatstop", "app = flask.Flask('app')"
    register = "app.register_blueprint(flask_chatstop.ChatStop())"
    (tmp_path / "app.py").write_text("\n".join([*lines, register]))
    monkeypatch.chdir(tmp_path)


def flask(arguments: list[str], group: FlaskGroup | None = None) -> Result:
    group = group or FlaskGroup(name="flask", load_dotenv=False)
    # Flask sets it, and leaves it to every process that a later test starts: there
    # app.run() would do nothing. The runner puts back what it is told of.
    return CliRunner(env={"FLASK_RUN_FROM_CLI": None}).invoke(group, arguments)


@pytest.mark.usefixtures("app_without_keys")
def test_the_first_key_is_made_before_an_app_can_be_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    installed = tmp_path / "site" / "flask_chatstop-0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Name: flask_chatstop\nVersion: 0\n")
    commands = setup["options.entry_points"]["flask.commands"]
    (installed / "entry_points.txt").write_text(f"[flask.commands]{commands}\n")
    monkeypatch.syspath_prepend(installed.parent)
    result = flask(["--app", "app", "chatstop", "new-key"])
    assert result.exit_code == 0 and "entry: sha256:" in result.output
    result = flask(["--app", "app", "chatstop", "list"])
    assert result.exit_code == 1
    assert result.output.startswith(
        "Error: No request could be authenticated: set CHAT"
    )


@pytest.mark.usefixtures("app_without_keys")
def test_the_package_itself_makes_a_key_without_an_app() -> None:
    result = flask(["chatstop", "new-key"], __main__.flask)
    assert result.exit_code == 0 and "entry: sha256:" in result.output


APP = """
from flask import Flask
from flask_chatstop import ChatStop
app = Flask("app")
app.config["CHATSTOP_API_KEYS"] = ["key"]
app.config.from_prefixed_env()
app.register_blueprint(ChatStop())
"""


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        (
            "BACKEND",
            "mysql+mysqldb://u:s3cret@h/x",
            "CHATSTOP_BACKEND: .* write mysql:",
        ),
        ("BACKEND", "postgresql://h/x?pasword=s3cret", "CHATSTOP_BACKEND: .* option"),
        (
            "EVENTS",
            "ftp://u:s3cret@h",
            "CHATSTOP_EVENTS: .* use a URL that begins with",
        ),
        ("LEASE", "30s", "CHATSTOP_LEASE is '30s'; set it to a number of seconds"),
        ("SWEEP_INTERVAL", "90", "CHATSTOP_SWEEP_INTERVAL .* to at most 60"),
        (
            "ENABLED",
            "False",
            "CHATSTOP_ENABLED is 'False'; .* variable to true or false",
        ),
        ("ENABLED", "false", "CHATSTOP_ENABLED is False, .* set it to True"),
        ("API_KEYS", "s3cret", 'CHATSTOP_API_KEYS is a str; .* like {"key": "app"}'),
        ("API_KEYS", "null", "set CHATSTOP_API_KEYS"),
        ("EVENTS_MAX_BYTES", "0", "CHATSTOP_EVENTS_MAX_BYTES .* above 0"),
    ],
)
def test_a_wrong_setting_is_one_line_that_says_what_to_set(
    setting: str, value: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(APP)
    done = subprocess.run(
        [sys.executable, "-m", "flask_chatstop", "check"],
        env={
            "PYTHONPATH": str(ROOT),
            "FLASK_APP": "app",
            f"FLASK_CHATSTOP_{setting}": value,
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert re.match(f"Error: .*{words}", line)
    assert "s3cret" not in line
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("backend_from_url('sqlite:////nowhere/x.db').check()", "its directory must"),
        ("raise ConfigurationError('A text\\nof two lines.')", "A text of two lines."),
    ],
)
def test_an_app_that_cannot_be_loaded_is_an_error_in_one_line(
    code: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = "ConfigurationError, backend_from_url"
    (tmp_path / "broken.py").write_text(f"from flask_chatstop import {names}\n{code}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("FLASK_APP", "broken")
    result = flask(["chatstop", "list"], __main__.flask)
    assert result.exit_code == 1
    assert re.fullmatch(f"Error: .*{words}.*\n", result.output)


@pytest.mark.parametrize("command", ["list", "check", "purge", "init-db"])
def test_what_is_found_wrong_when_a_store_is_used_names_its_setting(
    command: str,
) -> None:
    backend = DatabaseBackend(lambda: object())  # type: ignore[arg-type, return-value]
    result = run(make_app(CHATSTOP_BACKEND=backend), command)
    assert result.exit_code == 1
    assert re.fullmatch("Error: CHATSTOP_BACKEND: .*; use one of .*\n", result.output)


@pytest.mark.parametrize("command", ["list", "check", "stop x"])
def test_an_app_without_a_chatstop_is_named(command: str) -> None:
    app = Flask("shop")
    app.cli.add_command(commands)
    result = run(app, *command.split())
    assert result.exit_code == 1
    assert "No ChatStop is registered on the app 'shop'" in result.output


def test_one_deleted_row_is_not_called_rows(sqlite_url: str) -> None:
    with closing(DatabaseBackend(sqlite_url, lease=1, timeout=1)) as backend:
        app = make_app(CHATSTOP_BACKEND=backend)
        assert run(app, "purge").output == "Deleted 0 rows.\n"
        backend.announce(new_record())
        outputs = (run(app, "purge").output for _ in itertools.count())
        wait_until(lambda: next(outputs) == "Deleted 1 row.\n")


def test_the_commands_know_the_log_of_answers(sqlite_url: str, tmp_path: Path) -> None:
    events = f"sqlite:///{tmp_path / 'events.db'}"
    app = make_app(
        CHATSTOP_BACKEND=sqlite_url, CHATSTOP_EVENTS=events, CHATSTOP_RETENTION=0.001
    )
    assert run(app, "init-db").output == (
        "The table chatstop_task exists.\n"
        "The table chatstop_event exists.\n"
        "The table chatstop_follower exists.\n"
    )
    with closing(DatabaseEventLog(events, retention=0.001)) as log:
        log.append({name * 64: [Record(0, b""), Record(1, b"")] for name in "ab"})
        wait_until(lambda: log.read("a" * 64, 0) is None)
        wait_until(lambda: log.read("b" * 64, 0) is None)
    assert run(app, "purge").output == "Deleted 0 rows.\nDeleted 2 answers.\n"
    assert "The log of answers replies within" in run(app, "check").output
    assert json.loads(run(app, "check", "--json").output)["events_seconds"] > 0


def test_init_db_serves_a_log_of_answers_beside_another_store(sqlite_url: str) -> None:
    app = make_app(CHATSTOP_EVENTS=sqlite_url)
    tables = "The table chatstop_event exists.\nThe table chatstop_follower exists.\n"
    assert run(app, "init-db").output == tables


@pytest.mark.parametrize("name", ["chatstop_event", "chatstop_follower"])
def test_check_names_the_table_of_the_log_that_is_missing(
    postgresql_url: str, sqlite_url: str, name: str
) -> None:
    with closing(DatabaseEventLog(postgresql_url)) as log:
        log.create_table()
        [table] = [x for x in log.tables if x.name == name]
        with log.engine.connect() as connection:
            table.drop(connection)
        app = make_app(CHATSTOP_BACKEND=sqlite_url, CHATSTOP_EVENTS=log)
        result = run(app, "check")
        log.create_table()
    assert f"has no table {name}; create it with" in result.output


def test_a_log_of_answers_that_is_away_is_told_by_check(sqlite_url: str) -> None:
    events = DatabaseEventLog("postgresql://127.0.0.1:1/nothing")
    app = make_app(CHATSTOP_BACKEND=sqlite_url, CHATSTOP_EVENTS=events)
    result = run(app, "check")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: CHATSTOP_EVENTS: ")
    assert "127.0.0.1:1/nothing" in result.stderr


def test_check_reads_the_log_beside_tasks_in_memory(sqlite_url: str) -> None:
    app = make_app(CHATSTOP_EVENTS=sqlite_url)
    result = run(app, "check")
    assert result.exit_code == 0
    assert re.fullmatch(r"The log of answers replies within .* ms\.\n", result.stdout)
    assert "for several workers, set CHATSTOP_BACKEND" in result.stderr
    assert list(json.loads(run(app, "check", "--json").stdout)) == ["events_seconds"]


def test_check_tells_of_a_broken_log_beside_tasks_in_memory() -> None:
    result = run(make_app(CHATSTOP_EVENTS="redis://127.0.0.1:1"), "check")
    assert result.exit_code == 1
    assert "Error: CHATSTOP_EVENTS: Redis failed" in result.stderr


def test_check_does_not_claim_to_have_read_a_log_in_the_memory_of_the_server(
    sqlite_url: str,
) -> None:
    app = make_app(CHATSTOP_BACKEND=sqlite_url, CHATSTOP_EVENTS="memory://")
    result = run(app, "check")
    assert result.exit_code == 0
    assert "A stop is heard within" in result.stdout
    assert "The log of answers replies" not in result.stdout
    assert "for several workers, set CHATSTOP_EVENTS" in result.stderr


def test_check_fails_where_all_is_in_the_memory_of_the_server() -> None:
    result = run(make_app(CHATSTOP_EVENTS="memory://"), "check")
    assert result.exit_code == 1
    assert "set CHATSTOP_BACKEND" in result.stderr
    assert "set CHATSTOP_EVENTS" in result.stderr


@pytest.mark.parametrize("command", ["list", "check", "purge", "init-db"])
def test_a_memory_that_no_command_can_see_is_an_error(command: str) -> None:
    result = run(make_app(), command)
    assert result.exit_code == 1
    assert "set CHATSTOP_BACKEND" in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["x", "--user", "alice"],
        ["--app", "demo"],
        ["x", "--app", "a"],
        ["x", "--all"],
        ["--user", "alice", "--all"],
    ],
)
def test_a_stop_of_nothing_in_particular_is_refused(arguments: list[str]) -> None:
    result = run(make_app(), "stop", *arguments)
    assert result.exit_code == 2
    assert "Pass a TASK_ID or --user or --all" in result.output


def test_every_command_is_on_its_page() -> None:
    page = (DOCS / "cli.md").read_text()
    named = set(re.findall(r"^\| `flask chatstop ([\w-]+)", page, re.MULTILINE))
    assert named == set(commands.commands)
    with_json = {
        name
        for name, command in commands.commands.items()
        if any(parameter.name == "as_json" for parameter in command.params)
    }
    assert with_json == {"list", "stop", "check"}
    assert "`list`, `stop` and `check` print JSON" in page

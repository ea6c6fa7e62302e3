"""The commands of ``flask chatstop``."""

import hashlib
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from flask import current_app
from flask.cli import AppGroup

from flask_chatstop.backends import MemoryBackend, StopOutcome, TaskInfo
from flask_chatstop.config import AppState
from flask_chatstop.doorbell_check import time_to_hear
from flask_chatstop.errors import BackendError, ConfigurationError
from flask_chatstop.worker import Worker

if TYPE_CHECKING:
    from flask_chatstop.backends.database import DatabaseBackend

commands = AppGroup("chatstop", help="Manage the store of running tasks.")

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@commands.command("init-db")
def init_db() -> None:
    """Create the table of the database backend."""
    with _database() as database:
        database.create_table()
        click.echo(f"The table {database.table.fullname} exists.")


@commands.command()
def purge() -> None:
    """Delete expired rows, which the workers also do."""
    with _database() as database:
        click.echo(f"Deleted {_counted(database.purge(), 'row')}.")


@commands.command("list")
@_as_json
def list_tasks(as_json: bool) -> None:
    """List the running and stopping tasks, the oldest first."""
    with _worker() as worker:
        tasks = worker.backend.tasks()
    if as_json:
        click.echo(json.dumps([_described(info) for info in tasks], indent=2))
        return
    for info in tasks:
        task = {name: _shown(value) for name, value in _described(info).items()}
        task["age"] = f"{info.age:.0f}"
        click.echo(
            "{task_id}  {state}  {age} s  app {app}  source {source}  user {user}"
            "  worker {worker_id}".format(**task)
        )
    click.echo(f"{_counted(len(tasks), 'task')}.", err=True)


@commands.command()
@click.argument("task_id", required=False)
@click.option("--user", help="Stop all tasks of this user.")
@click.option("--all", "everybody", is_flag=True, help="Stop all tasks of everybody.")
@click.option("--app", help="With --user or --all: only those of this app.")
@_as_json
def stop(
    task_id: str | None,
    user: str | None,
    everybody: bool,
    app: str | None,
    as_json: bool,
) -> None:
    """Stop a task of any owner, all tasks of a user, or all tasks."""
    if [task_id is not None, user is not None, everybody].count(True) != 1 or (
        app is not None and task_id is not None
    ):
        raise click.UsageError(
            "Pass a TASK_ID or --user or --all; --app needs --user or --all."
        )
    with _worker() as worker:
        if task_id is None:
            stopped = worker.stop_all(app=app, source=None, user=user)
        else:
            stopped = [
                info.record
                for info in worker.backend.tasks(task_id=task_id)
                if worker.stop(info.record.task_id, info.record.owner)
                is StopOutcome.STOPPING
            ]
    if as_json:
        click.echo(json.dumps({"stopping": [record.task_id for record in stopped]}))
    else:
        for record in stopped:
            click.echo(f"Stopping {_shown(record.task_id)}.")
        click.echo(f"{_counted(len(stopped), 'task')}.", err=True)
    if task_id is not None and not stopped:
        raise click.ClickException(f"No task {task_id!r} is running.")


@commands.command()
@_as_json
def check(as_json: bool) -> None:
    """Check that the store answers and that a worker hears a stop."""
    with _worker() as worker:
        backend = worker.backend
        began = time.perf_counter()
        backend.check()
        store = time.perf_counter() - began
        listener = time_to_hear(backend)
    if as_json:
        click.echo(json.dumps({"store_seconds": store, "doorbell_seconds": listener}))
    else:
        click.echo(f"The store answers within {1000 * store:.1f} ms.")
        click.echo(f"A stop is heard within {1000 * listener:.1f} ms.")


@commands.command("new-key", with_appcontext=False)
def new_key() -> None:
    """Print a new API key and its entry for CHATSTOP_API_KEYS; needs no app."""
    key = f"app-{secrets.token_urlsafe(32)}"
    click.echo(f"key:   {key}")
    click.echo(f"entry: sha256:{hashlib.sha256(key.encode()).hexdigest()}")


@contextmanager
def _worker() -> Iterator[Worker]:
    state = current_app.extensions.get("chatstop")
    if not isinstance(state, AppState):
        raise click.ClickException(
            f"No ChatStop is registered on the app {current_app.name!r}; call its"
            " register_blueprint() with one."
        )
    worker = state.worker
    if isinstance(worker.backend, MemoryBackend):
        raise click.ClickException(
            "The tasks are in the memory of the server, which a command cannot read;"
            " set CHATSTOP_BACKEND to a store that both can use."
        )
    try:
        yield worker
    except (BackendError, ConfigurationError) as error:
        raise click.ClickException(str(error)) from error
    finally:
        worker.backend.close()


@contextmanager
def _database() -> Iterator["DatabaseBackend"]:
    with _worker() as worker:
        backend: Any = worker.backend
        if not hasattr(backend, "create_table"):
            raise click.ClickException(
                f"CHATSTOP_BACKEND is a {type(backend).__name__}, which needs no table."
            )
        yield backend


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _shown(value: object) -> str:
    """Return a text, escaped if it has characters that could control a terminal."""
    text = str(value)
    return text if text.isprintable() else repr(text)


def _described(info: TaskInfo) -> dict[str, object]:
    owner = info.record.owner
    return {
        "task_id": info.record.task_id,
        "state": "stopping" if info.is_stopping else "running",
        "age": info.age,
        "app": owner.app,
        "source": owner.source,
        "user": owner.user,
        "worker_id": info.record.worker_id,
    }

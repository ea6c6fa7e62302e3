"""The commands of ``flask chatstop``."""

import hashlib
import json
import secrets
import threading
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from flask import current_app
from flask.cli import AppGroup

from flask_chatstop.backends import (
    EndReason,
    MemoryBackend,
    Owner,
    StopBackend,
    StopOutcome,
    TaskInfo,
    TaskRecord,
)
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
        click.echo(f"Deleted {database.purge()} rows.")


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
    click.echo(f"{len(tasks)} tasks.", err=True)


@commands.command()
@click.argument("task_id", required=False)
@click.option("--user", help="Stop all tasks of this user.")
@click.option("--app", help="With --user: only those of this app.")
@_as_json
def stop(task_id: str | None, user: str | None, app: str | None, as_json: bool) -> None:
    """Stop a task of any owner, or all tasks of a user."""
    if (task_id is None) == (user is None) or (app and user is None):
        raise click.UsageError("Pass a TASK_ID or --user; --app needs --user.")
    with _worker() as worker:
        if user is not None:
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
        click.echo(f"{len(stopped)} tasks.", err=True)
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
        listener = _time_to_hear(backend)
    if as_json:
        click.echo(json.dumps({"store_seconds": store, "doorbell_seconds": listener}))
    else:
        click.echo(f"The store answers within {1000 * store:.1f} ms.")
        click.echo(f"A stop is heard within {1000 * listener:.1f} ms.")


@commands.command("new-key")
def new_key() -> None:
    """Print a new API key and its entry for CHATSTOP_API_KEYS."""
    key = f"app-{secrets.token_urlsafe(32)}"
    click.echo(f"key:   {key}")
    click.echo(f"entry: sha256:{hashlib.sha256(key.encode()).hexdigest()}")


@contextmanager
def _worker() -> Iterator[Worker]:
    worker: Worker = current_app.extensions["chatstop"].worker
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


def _time_to_hear(backend: StopBackend) -> float:
    """Return the seconds from the stop of a task of our own until it is heard."""
    owner = Owner("flask chatstop", "check", "check")
    record = TaskRecord(f"check-{uuid.uuid4()}", owner, uuid.uuid4().hex)
    listening, is_heard, closing = (threading.Event() for _ in range(3))
    failures: list[BackendError] = []

    def heard(task_ids: Collection[str]) -> None:
        if record.task_id in task_ids:
            is_heard.set()
        listening.set()

    def listen() -> None:
        try:
            backend.listen(record.worker_id, lambda: [record.task_id], heard, closing)
        except BackendError as error:
            failures.append(error)
            listening.set()

    threading.Thread(target=listen, daemon=True).start()
    listening.wait(2 * backend.timeout)
    backend.announce(record)
    backend.renew([record])
    began = time.perf_counter()
    backend.stop(record.task_id, owner)
    was_heard = is_heard.wait(2 * backend.timeout)
    took = time.perf_counter() - began
    is_swept = backend.stops(record.worker_id, [record.task_id])
    backend.end(record, EndReason.STOPPED)
    closing.set()
    if not is_swept:
        raise BackendError("The store has taken a stop, but a sweep does not find it.")
    if not was_heard:
        reason = failures[0] if failures else "no notification came"
        raise BackendError(f"The store answers, but a stop is not heard: {reason}")
    return took


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

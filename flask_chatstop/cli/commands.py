"""The commands of ``flask chatstop``."""

import hashlib
import json
import secrets
import time
from collections.abc import Callable

import click

from flask_chatstop.backends import StopBackend, StopOutcome, TaskInfo
from flask_chatstop.cli.doorbell_check import Hearing, hear_a_stop
from flask_chatstop.cli.stores import (
    CommandGroup,
    app_state,
    databases,
    in_use,
    shared_stores,
    shared_worker,
    used_state,
)
from flask_chatstop.events import EventLog

commands = CommandGroup("chatstop", help="Manage the store of running tasks.")

_CHECKED = {
    "store_seconds": "The store answers",
    "doorbell_seconds": "A stop is heard",
    "events_seconds": "The log of answers replies",
}

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@commands.command("init-db")
def init_db() -> None:
    """Create the tables of CHATSTOP_BACKEND and CHATSTOP_EVENTS."""
    for setting, database in databases(app_state()).items():
        with in_use(database, setting):
            database.create_table()
            for table in database.tables:
                click.echo(f"The table {table.fullname} exists.")


@commands.command()
def purge() -> None:
    """Delete expired rows and answers, which the workers also do."""
    for setting, database in databases(app_state()).items():
        with in_use(database, setting):
            count = 0
            while deleted := database.purge():
                count += deleted
            noun = "answer" if isinstance(database, EventLog) else "row"
            click.echo(f"Deleted {_counted(count, noun)}.")


@commands.command("list")
@_as_json
def list_tasks(as_json: bool) -> None:
    """List the running and stopping tasks, the oldest first."""
    with shared_worker() as worker:
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
    if "" in (user, app):
        raise click.UsageError("--user and --app need a name; this one is empty.")
    with shared_worker() as worker:
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
    """Check that the stores answer and that a worker hears a stop."""
    found: dict[str, float] = {}
    hearing: Hearing | None = None
    for setting, store in shared_stores(used_state()).items():
        with in_use(store, setting):
            if isinstance(store, StopBackend):
                found["store_seconds"] = _time_of(store.check)
                hearing = hear_a_stop(store)
                found["doorbell_seconds"] = hearing.seconds
            else:
                found["events_seconds"] = _time_of(store.check)
    if as_json:
        polled = {"doorbell_is_polled": hearing.is_polled} if hearing else {}
        click.echo(json.dumps({**found, **polled}))
        return
    for name, seconds in found.items():
        click.echo(f"{_CHECKED[name]} within {1000 * seconds:.1f} ms.")
    if hearing and hearing.is_polled:
        click.echo(
            "No notification arrives, so a worker reads the store every 100 ms."
            " The documentation of your backend says why."
        )


@commands.command("new-key", with_appcontext=False)
def new_key() -> None:
    """Print a new API key and its entry for CHATSTOP_API_KEYS; needs no app."""
    key = f"app-{secrets.token_urlsafe(32)}"
    click.echo(f"key:   {key}")
    click.echo(f"entry: sha256:{hashlib.sha256(key.encode()).hexdigest()}")


def _time_of(check: Callable[[], object]) -> float:
    began = time.perf_counter()
    check()
    return time.perf_counter() - began


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

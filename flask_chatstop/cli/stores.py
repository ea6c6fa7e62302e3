"""The stores that a command works on, and what it says where it cannot."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from flask import current_app
from flask.cli import AppGroup

from flask_chatstop.backends import MemoryBackend, StopBackend
from flask_chatstop.errors import ChatStopError
from flask_chatstop.events import EventLog, MemoryEventLog
from flask_chatstop.state import AppState
from flask_chatstop.worker import Worker

TASKS_IN_MEMORY = (
    "The tasks are in the memory of the server, which a command cannot read. That"
    " serves one process: for several workers, set CHATSTOP_BACKEND to a store that"
    " they share."
)
ANSWERS_IN_MEMORY = (
    "The log of answers is in the memory of the server, which a command cannot read."
    " That serves one process: for several workers, set CHATSTOP_EVENTS to a store that"
    " they share."
)


class CommandGroup(AppGroup):
    """Commands that end with one line where the configuration or a store is at fault.

    Flask loads the app within a command, and so the app's configuration is read there.
    """

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ChatStopError as error:
            raise click.ClickException(one_line(error)) from error


def one_line(error: Exception) -> str:
    """Return what an error says, on one line."""
    return " ".join(str(error).split())


def app_state() -> AppState:
    """Return the state of the current app.

    :raises click.ClickException: it has no ``ChatStop``.
    """
    state = current_app.extensions.get("chatstop")
    if not isinstance(state, AppState):
        raise click.ClickException(
            f"No ChatStop is registered on the app {current_app.name!r}; call its"
            " register_blueprint() with one."
        )
    return state


@contextmanager
def shared_worker() -> Iterator[Worker]:
    """Give a worker on the store of tasks, if the server's workers can share that.

    :raises click.ClickException: they cannot.
    """
    worker = used_state().worker
    if isinstance(worker.backend, MemoryBackend):
        raise click.ClickException(TASKS_IN_MEMORY)
    with in_use(worker.backend, "CHATSTOP_BACKEND"):
        yield worker


def used_state() -> AppState:
    """Return the state of the current app, whose stores are in use.

    :raises click.ClickException: they are not.
    """
    state = app_state()
    if not state.is_enabled:
        raise click.ClickException(
            "CHATSTOP_ENABLED is False, so the app uses no store; set it to True."
        )
    return state


def shared_stores(state: AppState) -> dict[str, StopBackend | EventLog]:
    """Return the stores that the server's workers can share, by their settings.

    Says of each other one what that means.

    :raises click.ClickException: there is no such store.
    """
    stores: dict[str, StopBackend | EventLog] = {}
    notes = []
    if isinstance(state.worker.backend, MemoryBackend):
        notes.append(TASKS_IN_MEMORY)
    else:
        stores["CHATSTOP_BACKEND"] = state.worker.backend
    if state.event_writer is not None:
        if isinstance(state.event_writer.events, MemoryEventLog):
            notes.append(ANSWERS_IN_MEMORY)
        else:
            stores["CHATSTOP_EVENTS"] = state.event_writer.events
    if not stores:
        raise click.ClickException(" ".join(notes))
    for note in notes:
        click.echo(note, err=True)
    return stores


def databases(state: AppState) -> dict[str, Any]:
    """Return the stores that have a table, by their settings.

    :raises click.ClickException: none has.
    """
    stores: dict[str, Any] = {"CHATSTOP_BACKEND": state.worker.backend}
    if state.event_writer is not None:
        stores["CHATSTOP_EVENTS"] = state.event_writer.events
    found = {
        setting: store
        for setting, store in stores.items()
        if hasattr(store, "create_table")
    }
    if not found:
        names = " and ".join(type(store).__name__ for store in stores.values())
        raise click.ClickException(
            f"There is no table, since there is only {names}; set CHATSTOP_BACKEND or"
            " CHATSTOP_EVENTS to a database, if you mean one."
        )
    return found


@contextmanager
def in_use(store: StopBackend | EventLog, setting: str) -> Iterator[None]:
    """Close a store after the block, and name its setting where it fails there."""
    try:
        try:
            yield
        finally:
            store.close()
    except ChatStopError as error:
        raise click.ClickException(f"{setting}: {one_line(error)}") from error

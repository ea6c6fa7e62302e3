"""The commands of ``flask chatstop``."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from flask import current_app
from flask.cli import AppGroup

from flask_chatstop.errors import BackendError, ConfigurationError

if TYPE_CHECKING:
    from flask_chatstop.backends.database import DatabaseBackend

commands = AppGroup("chatstop", help="Look after the store of running tasks.")


@commands.command("init-db")
def init_db() -> None:
    """Create the table of the database backend."""
    with _database() as database:
        database.create_table()
        click.echo(f"The table {database.table.fullname} is there.")


@commands.command()
def purge() -> None:
    """Delete the rows that have expired; they also go by themselves."""
    with _database() as database:
        click.echo(f"Deleted {database.purge()} rows.")


@contextmanager
def _database() -> Iterator["DatabaseBackend"]:
    backend = current_app.extensions["chatstop"].worker.backend
    if not hasattr(backend, "create_table"):
        raise click.ClickException(
            f"CHATSTOP_BACKEND is a {type(backend).__name__}, which has no table;"
            " there is nothing to do."
        )
    try:
        yield backend
    except (BackendError, ConfigurationError) as error:
        raise click.ClickException(str(error)) from error

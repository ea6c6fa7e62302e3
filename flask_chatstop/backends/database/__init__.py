"""The database backend, and its table for migrations."""

from flask_chatstop.backends.database.backend import DatabaseBackend
from flask_chatstop.backends.database.table import task_table

__all__ = ["DatabaseBackend", "task_table"]

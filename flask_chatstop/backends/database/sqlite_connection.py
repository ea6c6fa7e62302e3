"""A connection to SQLite that knows whether its file is still the one of that name."""

import os
import sqlite3
from typing import Any

from flask_chatstop.backends.database.sqlite_doorbell import Ringer
from flask_chatstop.logs import get_logger

logger = get_logger(__name__)


class SQLiteConnection(sqlite3.Connection):
    """A connection that remembers which file it has opened.

    SQLite writes to a file that was deleted or replaced as if nothing had happened.
    Whoever opens the name anew does not see what was written.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        #: The absolute path of the file.
        self.path: str = self.execute("PRAGMA database_list").fetchone()[2]
        self._file = _file_at(self.path)
        #: Rings the workers of the tasks that are stopped.
        self.ringer = Ringer(self.path)

    def close(self) -> None:
        self.ringer.close()
        super().close()

    def __del__(self) -> None:
        # Python closes it, and from 3.13 on warns of that. But a pool of SQLAlchemy's
        # that nobody holds, like that of an app in a test, drops its connections so.
        pass

    @property
    def has_lost_its_file(self) -> bool:
        """Whether the file was deleted or replaced since it was opened."""
        return _file_at(self.path) != self._file

    def log_loss(self) -> None:
        """Tell an operator that the file was deleted or replaced."""
        logger.warning(
            "%s was deleted or replaced. It is opened anew, and the tasks that run are"
            " announced again.",
            self.path,
        )


def _file_at(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino

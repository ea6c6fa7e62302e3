"""What was said on the page, in an SQLite file that every worker shares."""

import secrets
import sqlite3
import time
import uuid
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

#: Seconds between two writes of an answer that is still being given.
KEEP_INTERVAL = 0.5
#: Seconds without a word after which a running answer's worker is taken for dead.
SILENCE = 120.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS exchange (
    id TEXT NOT NULL UNIQUE,
    user TEXT NOT NULL,
    task_id TEXT NOT NULL,
    query TEXT NOT NULL,
    answer TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL DEFAULT 'running',
    changed_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS exchange_user ON exchange (user);
CREATE TABLE IF NOT EXISTS secret (id INTEGER PRIMARY KEY, key TEXT NOT NULL);
"""


class Conversations:
    """The conversation of every visitor: messages, and answers whole or partial.

    :param path: the file, which :meth:`create` makes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self) -> None:
        """Make the file, readable by its owner only, unless it is there."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch(mode=0o600)
        with self._database() as database:
            database.executescript(_SCHEMA)

    def secret_key(self) -> str:
        """Give the key that signs the session cookies, the same in every worker."""
        with self._database() as database:
            database.execute(
                "INSERT OR IGNORE INTO secret VALUES (1, ?)", (secrets.token_hex(),)
            )
            [key] = database.execute("SELECT key FROM secret").fetchone()
        return str(key)

    def begin(self, user: str, task_id: str, query: str) -> str:
        """Keep a message whose answer begins now.

        :returns: the id of the exchange.
        """
        exchange_id = str(uuid.uuid4())
        with self._database() as database:
            database.execute(
                "INSERT INTO exchange (id, user, task_id, query, changed_at)"
                " VALUES (?, ?, ?, ?, ?)",
                (exchange_id, user, task_id, query, time.time()),
            )
        return exchange_id

    def keeping(
        self, exchange_id: str, pieces: Generator[str, None, None]
    ) -> Iterator[str]:
        """Pass the pieces of an answer on, and keep what there is of it meanwhile."""
        text, kept_at = "", 0.0
        with closing(pieces):
            for piece in pieces:
                text += piece
                if time.monotonic() - kept_at >= KEEP_INTERVAL:
                    # A full disk is no reason to end the answer.
                    with suppress(sqlite3.Error):
                        self.change(exchange_id, "running", text)
                    kept_at = time.monotonic()
                yield piece

    def change(self, exchange_id: str, state: str, answer: str) -> None:
        """Keep an answer as it is now, unless it has ended before."""
        with self._database() as database:
            database.execute(
                "UPDATE exchange SET state = ?, answer = ?, changed_at = ?"
                " WHERE id = ? AND state = 'running'",
                (state, answer, time.time(), exchange_id),
            )

    def of(self, user: str) -> list[dict[str, str]]:
        """Give the conversation of a visitor, the oldest exchange first.

        A worker that was killed cannot say that its answers have ended, so those
        that have been silent for long are given as ``interrupted``. Should one end
        all the same, it is kept as it ended.
        """
        with self._database() as database:
            database.row_factory = sqlite3.Row
            rows = database.execute(
                "SELECT id, task_id, query, answer, CASE"
                " WHEN state = 'running' AND changed_at < ? THEN 'interrupted'"
                " ELSE state END AS state"
                " FROM exchange WHERE user = ? ORDER BY rowid",
                (time.time() - SILENCE, user),
            )
            return [dict(row) for row in rows]

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=5)) as database, database:
            yield database

"""What was said on the page, in an SQLite file that every worker shares."""

import secrets
import sqlite3
import time
import uuid
from collections.abc import Collection, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

#: Seconds between two writes of an answer that is still being given.
KEEP_INTERVAL = 0.5
#: Seconds without a word after which an answer without a task is taken for lost. A
#: store of tasks that has come back empty knows a running one after a third of a lease.
SILENCE = 30.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS conversation (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    user TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS conversation_user ON conversation (user);
CREATE TABLE IF NOT EXISTS message (
    id TEXT NOT NULL UNIQUE,
    conversation_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    query TEXT NOT NULL,
    answer TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL DEFAULT 'running',
    changed_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS message_conversation ON message (conversation_id);
CREATE TABLE IF NOT EXISTS secret (id INTEGER PRIMARY KEY, key TEXT NOT NULL);
"""
_CURRENT = "SELECT id FROM conversation WHERE user = ? ORDER BY number DESC LIMIT 1"


class Conversations:
    """The conversations of every visitor: messages, and answers whole or partial.

    The newest conversation of a visitor is the current one, and the only one that the
    page shows. The others are kept.

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

    def current(self, user: str) -> str:
        """Give the id of a visitor's current conversation, and begin the first one."""
        with self._database() as database:
            if database.execute(_CURRENT, (user,)).fetchone() is None:
                # Two tabs may load at once: one of them begins it.
                database.execute(
                    "INSERT INTO conversation (id, user) SELECT ?, ?"
                    " WHERE NOT EXISTS (SELECT 1 FROM conversation WHERE user = ?)",
                    (str(uuid.uuid4()), user, user),
                )
            [conversation_id] = database.execute(_CURRENT, (user,)).fetchone()
        return str(conversation_id)

    def begin_another(self, user: str) -> None:
        """Begin a conversation, which is the visitor's current one from now on."""
        with self._database() as database:
            database.execute(
                "INSERT INTO conversation (id, user) VALUES (?, ?)",
                (str(uuid.uuid4()), user),
            )

    def begin(
        self, user: str, conversation_id: str, task_id: str, query: str
    ) -> str | None:
        """Keep a message whose answer begins now.

        :returns: the id of the message; ``None`` if the conversation is not the
            visitor's current one any more.
        """
        message_id = str(uuid.uuid4())
        with self._database() as database:
            kept = database.execute(
                "INSERT INTO message (id, conversation_id, task_id, query, changed_at)"
                f" SELECT ?, ?, ?, ?, ? WHERE ? = ({_CURRENT})",
                (
                    *(message_id, conversation_id, task_id, query, time.time()),
                    *(conversation_id, user),
                ),
            )
            return message_id if kept.rowcount else None

    def keeping(
        self, message_id: str, pieces: Generator[str, None, None]
    ) -> Iterator[str]:
        """Pass the pieces of an answer on, and keep what there is of it meanwhile."""
        text, kept_at = "", 0.0
        with closing(pieces):
            for piece in pieces:
                text += piece
                if time.monotonic() - kept_at >= KEEP_INTERVAL:
                    # A full disk is no reason to end the answer.
                    with suppress(sqlite3.Error):
                        self.change(message_id, "running", text)
                    kept_at = time.monotonic()
                yield piece

    def change(self, message_id: str, state: str, answer: str) -> None:
        """Keep an answer as it is now, unless it has ended before."""
        with self._database() as database:
            database.execute(
                "UPDATE message SET state = ?, answer = ?, changed_at = ?"
                " WHERE id = ? AND state = 'running'",
                (state, answer, time.time(), message_id),
            )

    def of(
        self, conversation_id: str, running: Collection[str] | None
    ) -> list[dict[str, str]]:
        """Give a conversation, the oldest message first, with its answer.

        A worker that was killed cannot say that its answers have ended. So those that
        nobody runs and that have been silent for a while are given as ``interrupted``.
        Should one end all the same, it is kept as it ended.

        :param running: the ids of the visitor's tasks, read before this call; ``None``
            if nobody knows them.
        """
        with self._database() as database:
            database.row_factory = sqlite3.Row
            rows = database.execute(
                "SELECT id, task_id, query, answer, state, changed_at"
                " FROM message WHERE conversation_id = ? ORDER BY rowid",
                (conversation_id,),
            )
            return [_as_it_is(dict(row), running) for row in rows]

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=5)) as database, database:
            yield database


def _as_it_is(row: dict[str, Any], running: Collection[str] | None) -> dict[str, str]:
    is_silent = row.pop("changed_at") < time.time() - SILENCE
    is_lost = running is not None and row["task_id"] not in running
    if row["state"] == "running" and is_silent and is_lost:
        row["state"] = "interrupted"
    return row

"""The log that keeps answers in a database that the workers share."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    MetaData,
    bindparam,
    delete,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite

from flask_chatstop.backends.database.dialects import parse_url
from flask_chatstop.backends.database.engine import Database
from flask_chatstop.backends.database.table import now
from flask_chatstop.errors import ConfigurationError
from flask_chatstop.events.base import MAX_BYTES, EventLog, Page
from flask_chatstop.events.records import END, HEAD, Record
from flask_chatstop.events.table import event_table

T = TypeVar("T")

#: Rows of one read. Most have at most 64 KiB.
_PAGE = 32
#: Bytes and rows of one INSERT.
_LONGEST, _ROWS = 1024 * 1024, 500
#: Logs of one purge.
_PURGED = 50


class DatabaseEventLog(EventLog):
    """Serve the processes of one host on SQLite, or many hosts on a database server.

    SQLite creates the table by itself. On other databases, ``flask chatstop init-db``
    or a migration creates it. Followers of an answer that another process streams read
    again every 20 to 100 ms; one of each process does so for all.

    :param source: as for :class:`~flask_chatstop.backends.database.DatabaseBackend`.
        Give SQLite a file of its own: frames are written 20 times a second.
    :param metadata: where :attr:`table` is added, so that a migration tool sees it.
    :raises ConfigurationError: a URL cannot be used; the message says why.
    """

    def __init__(
        self,
        source: str | URL | Engine | Callable[[], Engine],
        *,
        metadata: MetaData | None = None,
        retention: float = 600.0,
        timeout: float = 2.0,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        super().__init__(retention=retention, timeout=timeout, max_bytes=max_bytes)
        if isinstance(source, str | URL):
            source = parse_url(source)
        elif not isinstance(source, Engine) and not callable(source):
            raise ConfigurationError(
                f"The database is a {type(source).__name__}; pass a URL, an engine,"
                " or a function that returns an engine."
            )
        #: The table, for migrations.
        self.table = event_table(MetaData() if metadata is None else metadata)
        self._database = Database(source, self.table, timeout=self.timeout)
        c = self.table.c
        is_any = c.log_id.in_(bindparam("b_log_ids", expanding=True))
        is_head = c.number == HEAD
        self._heads = select(c.log_id).where(is_any, is_head, c.expires_at > now())
        self._deletion = delete(self.table).where(is_any)
        self._renewal = (
            update(self.table)
            .where(is_any, is_head, c.expires_at > now())
            .values(expires_at=now() + self.retention)
        )
        self._reading = (
            select(c.number, c.data, c.expires_at <= now())
            .where(
                c.log_id == bindparam("b_log_id"),
                or_(is_head, c.number > bindparam("b_after")),
            )
            .order_by(c.number)
            .limit(_PAGE + 1)
        )
        self._expired = (
            select(c.log_id)
            .where(c.expires_at <= now())
            .order_by(c.expires_at)
            .limit(_PURGED)
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._database)!r})"

    @property
    def engine(self) -> Engine:
        """The engine, which its first use makes or asks for.

        :raises BackendError: the callable returned no engine.
        """
        return self._database.engine

    def append(self, logs: Mapping[str, Sequence[Record]]) -> set[str]:
        if not logs:
            return set()
        return self._run(lambda connection: self._append(connection, logs))

    def read(self, log_id: str, after: int) -> Page | None:
        values = {"b_log_id": log_id, "b_after": max(after, HEAD)}
        rows = self._run(lambda on: on.execute(self._reading, values).all())
        if not rows or rows[0][0] != HEAD or rows[0][2]:
            return None
        records = [Record(number, bytes(data)) for number, data, _ in rows[1:]]
        return Page(bytes(rows[0][1]), records)

    def renew(self, log_ids: Collection[str]) -> None:
        ids = sorted(log_ids)
        for start in range(0, len(ids), _ROWS):
            values = {"b_log_ids": ids[start : start + _ROWS]}
            self._run(partial(self._renew, values=values))

    def purge(self) -> int:
        return self._run(self._purge)

    def check(self) -> None:
        """Do nothing if the store is usable."""
        self.renew(["check"])

    def create_table(self) -> None:
        """Create the table and its index unless they exist.

        :raises BackendError: the database failed.
        """
        self._database.create_table()

    def close(self) -> None:
        self._database.close()

    def after_fork(self) -> None:
        self._database.after_fork()

    def _run(self, work: Callable[[Connection], T]) -> T:
        return self._database.run(work)

    def _append(
        self, connection: Connection, logs: Mapping[str, Sequence[Record]]
    ) -> set[str]:
        new = [x for x, records in logs.items() if records[0].number == HEAD]
        known = set(new)
        if old := sorted(logs.keys() - known):
            known.update(connection.scalars(self._heads, {"b_log_ids": old}))
        expires_at = None
        if new:
            connection.execute(self._deletion, {"b_log_ids": sorted(new)})
            clock: float = connection.scalar(select(now())) or 0.0
            expires_at = clock + self.retention
        rows = [
            {
                "log_id": log_id,
                "number": record.number,
                "data": record.data,
                "expires_at": expires_at if record.number == HEAD else None,
            }
            for log_id in sorted(known)  # so that two workers never wait for each other
            for record in logs[log_id]
        ]
        insertion = self._insertion()
        for part in _parts(rows):
            connection.execute(insertion, part)
        if ended := sorted(x for x in known if logs[x][-1].number == END):
            connection.execute(self._renewal, {"b_log_ids": ended})
        return logs.keys() - known

    def _renew(self, connection: Connection, values: dict[str, list[str]]) -> None:
        connection.execute(self._renewal, values)

    def _purge(self, connection: Connection) -> int:
        # By id, as the backend of tasks does it.
        log_ids = connection.scalars(self._expired).all()
        if log_ids:
            connection.execute(self._deletion, {"b_log_ids": sorted(log_ids)})
        return len(log_ids)

    def _insertion(self) -> Any:
        """Return the INSERT that leaves rows as they are that exist."""
        name = self.engine.dialect.name
        if name in ("mysql", "mariadb"):
            insertion = mysql.insert(self.table)
            return insertion.on_duplicate_key_update(number=self.table.c.number)
        insert: Any = postgresql.insert if name == "postgresql" else sqlite.insert
        return insert(self.table).on_conflict_do_nothing()


def _parts(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    part: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        if part and (size > _LONGEST or len(part) >= _ROWS):
            yield part
            part, size = [], 0
        part.append(row)
        size += len(row["data"])
    if part:
        yield part

"""Followers on MySQL and MariaDB, who are rung by a kill."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Connection,
    Executable,
    Table,
    bindparam,
    func,
    literal,
    select,
)
from sqlalchemy.dialects import mysql

from flask_chatstop.backends.database.adding import Added, Adding
from flask_chatstop.backends.database.followers import FOLLOWS, Followers
from flask_chatstop.backends.database.mysql_kill import holder, kill, ring
from flask_chatstop.backends.database.mysql_listener import LOCK_PREFIX
from flask_chatstop.backends.database.mysql_pipeline import (
    SEE_UNCOMMITTED,
    can_pipeline,
    checked,
    run_together,
)
from flask_chatstop.backends.database.news import News
from flask_chatstop.backends.database.statements import (
    PyMySQLStatement,
    is_plain,
    is_servers,
)
from flask_chatstop.backends.database.table import now

# Kills all listeners in one round trip. Behind a proxy, the number of the connection is
# another one, and nothing is killed.
_RING = """BEGIN NOT ATOMIC
    DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;
    FOR found IN ({holders}) DO
        IF found.number IS NOT NULL AND CONNECTION_ID() = {number:d} THEN
            KILL QUERY found.number;
        END IF;
    END FOR;
END"""


class MySQLFollowers(Followers):
    """Kill the queries that the listeners of followers let wait."""

    def __init__(self, table: Table, *, lease: float) -> None:
        super().__init__(table, lease=lease)
        c = table.c
        lock = func.concat(literal(LOCK_PREFIX), c.listener)
        self._holders = holder(lock).where(self._is_followed).distinct()
        # PyMySQL writes a list as IN needs it.
        is_any = c.log_id.op("IN")(bindparam("b_log_ids"))
        self._numbers = PyMySQLStatement(
            select(func.is_used_lock(lock).label("number"))
            .where(is_any, c.state == FOLLOWS, c.expires_at > now())
            .distinct()
        )

    def adding(self, insertion: Executable) -> Adding:
        return _PipelinedAdding(insertion, self)

    def ring_all(self, connection: Connection, news: Collection[News]) -> None:
        driver: Any = connection.connection.driver_connection
        followed = {"b_log_ids": sorted(each.log_id for each in news)}
        if is_plain(connection, "pymysql") and can_pipeline(driver):
            ring_them = self.ringing(driver, followed["b_log_ids"])
            with self._numbers.kept(connection):
                checked(*run_together(driver, [ring_them]))
        else:
            kill(connection, connection.execute(self._holders, followed).all())

    def see_uncommitted(self, connection: Connection) -> None:
        if can_pipeline(connection.connection.driver_connection):
            connection.exec_driver_sql(SEE_UNCOMMITTED)

    def ringing(self, driver: Any, log_ids: Sequence[str]) -> str:
        """Return the statement that rings all who follow logs, on MariaDB."""
        holders = self._numbers.text(driver, {"b_log_ids": log_ids})
        return _RING.format(holders=holders, number=driver.thread_id())

    def ring(self, connection: Connection, listener: str) -> None:
        ring(connection, listener)

    def _upsert(self) -> Any:
        insertion = mysql.insert(self.columns.listener.table)
        return insertion.on_duplicate_key_update(
            expires_at=insertion.inserted.expires_at
        )


class _PipelinedAdding(Adding):
    def __init__(self, insertion: Executable, followers: MySQLFollowers) -> None:
        super().__init__(insertion)
        self._followers = followers
        self._statement = PyMySQLStatement(insertion)

    def execute(
        self, connection: Connection, values: Mapping[str, Any], news: News
    ) -> Added:
        driver: Any = connection.connection.driver_connection
        if not (is_plain(connection, "pymysql") and can_pipeline(driver)):
            return super().execute(connection, values, news)
        with self._statement.kept(connection):
            adding = self._statement.text(driver, dict(values))
            ringing = self._followers.ringing(driver, [news.log_id])
            if news.end is not None:
                # It comes with the ring, and is read while the server writes the commit
                # to its disk.
                statements = ["START TRANSACTION", adding, ringing, "COMMIT"]
                _, added, rung, committed = run_together(driver, statements)
            else:
                added, rung = run_together(driver, [adding, ringing])
                committed = added
            is_added = checked(added).affected_rows == 1
            checked(committed)
        if isinstance(rung, Exception) and not is_servers(rung):
            connection.invalidate()  # the record is committed all the same
        return Added.AND_RUNG if is_added else Added.NOTHING

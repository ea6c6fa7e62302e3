"""Triggers by which a database refuses the tasks that a test tells it to refuse."""

from collections.abc import Sequence

from sqlalchemy import Engine, text

#: As the id of a refused task: every task that the table does not have.
ANY = "*"

_IS_REFUSED = "EXISTS (SELECT 1 FROM refused WHERE task_id IN ({}))"
_OF_INSERT = _IS_REFUSED.format("NEW.task_id, '*'")
_OF_UPDATE = _IS_REFUSED.format("NEW.task_id")
_MOMENTS = (("INSERT", _OF_INSERT), ("UPDATE", _OF_UPDATE))

#: What makes them, by the name of SQLAlchemy's dialect.
TABLES = {
    "sqlite": [
        "CREATE TABLE refused (task_id TEXT)",
        *(
            f"CREATE TRIGGER refuse_{moment} BEFORE {moment} ON chatstop_task"
            f" WHEN {condition} BEGIN SELECT RAISE(ABORT, 'refused'); END"
            for moment, condition in _MOMENTS
        ),
    ],
    "postgresql": [
        "CREATE TABLE refused (task_id TEXT)",
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN IF {_OF_UPDATE} OR TG_OP = 'INSERT' AND {_OF_INSERT}"
        " THEN RAISE EXCEPTION 'refused'; END IF; RETURN NEW; END $$",
        "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON chatstop_task"
        " FOR EACH ROW EXECUTE FUNCTION refuse()",
    ],
    "mysql": [
        "CREATE TABLE refused (task_id VARBINARY(1020))",
        *(
            f"CREATE TRIGGER refuse_{moment} BEFORE {moment} ON chatstop_task"
            f" FOR EACH ROW IF {condition} THEN"
            " SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'refused'; END IF"
            for moment, condition in _MOMENTS
        ),
    ],
}
_DROPPED = {
    "postgresql": ["DROP FUNCTION refuse CASCADE", "DROP TABLE refused"],
    "mysql": [f"DROP TRIGGER refuse_{moment}" for moment, _ in _MOMENTS]
    + ["DROP TABLE refused"],
}


class StrictTable:
    """The table of tasks on a server, as its administrator sees it.

    :param engine: commits each statement by itself.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.execute(*TABLES[engine.dialect.name])

    def refuse(self, task_id: str) -> None:
        self.execute("INSERT INTO refused VALUES (:task_id)", task_id=task_id)

    def accept(self, task_ids: Sequence[str]) -> None:
        for task_id in task_ids:
            self.execute("DELETE FROM refused WHERE task_id = :id", id=task_id)

    def execute(self, *statements: str, **values: str) -> None:
        with self._engine.connect() as connection:
            for statement in statements:
                connection.execute(text(statement), values)

    def close(self) -> None:
        """Let the table be as it was, for other tests."""
        self.execute(*_DROPPED[self._engine.dialect.name])
        self._engine.dispose()

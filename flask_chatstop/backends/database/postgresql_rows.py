"""The rows by which listeners on PostgreSQL are found, and rung.

A row has the number of the process that its listener sleeps in. Its state says whether
the listener may be cancelled: once for each sleep. A second cancellation could meet
what the listener does when it is awake, which is an error in the server's log.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    Connection,
    Integer,
    Select,
    Table,
    Text,
    bindparam,
    case,
    cast,
    func,
    literal,
    select,
    true,
    update,
)
from sqlalchemy.dialects import postgresql

from flask_chatstop.backends.database.postgresql_cancellation import cancellation
from flask_chatstop.backends.database.postgresql_listener import NAME_PREFIX
from flask_chatstop.backends.database.statements import PsycopgStatement
from flask_chatstop.backends.database.table import now

_COMMIT = "synchronous_commit"
# No task and no log of answers has such an id.
_PREFIX = "/listener/"
#: Seconds that the row of a listener which is gone stays. It is stored with each sleep.
_LEASE = 60.0


def no_wait(is_hasty: Any = None) -> Any:
    """Let a statement commit without waiting for the server's disk.

    :param is_hasty: a condition, for the rows of which one is enough.
    """
    value: Any = "off"
    if is_hasty is not None:
        setting = func.current_setting(_COMMIT)
        value = case((is_hasty, "off"), else_=setting)
    return func.set_config(_COMMIT, value, true())


class ListenerRows:
    """The rows of listeners, in a table that has other rows too.

    :param table: has the columns ``state`` and ``expires_at``.
    :param id: the column that says that a row is a listener's, and which one's.
    :param name: the column for the name of a listener.
    :param number: the column for the number of its process, as text.
    :param others: the values of the other columns.
    """

    def __init__(
        self,
        table: Table,
        *,
        id: str,
        name: str,
        number: str,
        others: Mapping[str, Any],
    ) -> None:
        self._rows: Any = table.alias("listener")
        self._id, self._name, self._number = id, name, number
        insertion = postgresql.insert(table).values(
            **others, state="asleep", expires_at=now() + _LEASE
        )
        changed = (number, "state", "expires_at")
        self._registration = insertion.on_conflict_do_update(
            index_elements=list(table.primary_key),
            set_={column: insertion.excluded[column] for column in changed},
        ).returning(no_wait())
        b_name = bindparam("b_name", type_=Text)
        self._taking = PsycopgStatement(self.taking(b_name))
        cancelling = cancellation(
            bindparam("b_number", type_=Integer), literal(NAME_PREFIX).concat(b_name)
        )
        self._cancelling = PsycopgStatement(cancelling)

    def register(self, connection: Connection, name: str, number: int) -> None:
        """Store that a listener sleeps in the process of this number."""
        row = {self._id: _PREFIX + name, self._name: name, self._number: str(number)}
        connection.execute(self._registration, row)

    def ring(self, connection: Connection, name: str) -> None:
        """Ring one listener, if it sleeps."""
        found = self._taking.execute_and_forget(connection, {"b_name": name})
        if found:
            self.cancel(connection, name, found[0])

    def cancel(self, connection: Connection, name: str, number: str) -> None:
        """Cancel the sleep of a listener whose ring was taken."""
        params = {"b_number": int(number), "b_name": name}
        self._cancelling.execute_and_forget(connection, params)

    def taking(self, name: Any, *conditions: Any) -> Any:
        """Update the row of a listener, so that one rings it and the next do not.

        It returns the number of its process. Who finds the ring taken is found by the
        poll after the listener's next registration, which waits for that row: it is
        locked until what is to be polled is committed. The state is read from the
        locked row, as it is then, and not from the statement's snapshot.
        """
        rows = self._rows
        id, number = rows.c[self._id], rows.c[self._number]
        locked = (
            select(id.label("id"), rows.c.state)
            .where(id == literal(_PREFIX).concat(name), *conditions)
            .with_for_update(of=rows)
            .cte("locked")
        )
        return (
            update(rows)
            .where(id == locked.c.id, locked.c.state == "asleep")
            .values(state="rung")
            .returning(number)
        )

    def ringing(self, names: Select[Any]) -> Select[Any]:
        """Select the cancellation of all listeners of these names that sleep.

        It waits for nobody. A row that is locked is being taken by somebody else, or
        its listener goes to sleep and then polls.
        """
        c = self._rows.c
        name, number = c[self._name].label("name"), c[self._number].label("number")
        found = (
            select(name, number)
            .where(
                name.in_(names),
                c[self._id] == literal(_PREFIX).concat(name),
                c.state == "asleep",
            )
            .with_for_update(skip_locked=True)
            .cte("found")
        )
        taken = (
            update(self._rows)
            .where(c[self._id] == literal(_PREFIX).concat(found.c.name))
            .where(c[self._name] == found.c.name)
            .values(state="rung")
            .cte("taken")
        )
        process = cast(found.c.number, Integer)
        cancelling = cancellation(process, literal(NAME_PREFIX).concat(found.c.name))
        return cancelling.select_from(found).add_cte(taken)

"""The cancellation of a listener's block on PostgreSQL, as SQL."""

from typing import Any

from sqlalchemy import (
    Integer,
    Select,
    Text,
    bindparam,
    case,
    cast,
    false,
    func,
    select,
    true,
)

from flask_chatstop.backends.database.postgresql_listener import NAME_PREFIX

#: The setting by which a stop tells the next statement whom it rings.
_NOTE = "chatstop.rung"


def cancellation(number: Any, name: Any) -> Select[Any]:
    """Select the cancellation of a listener's block, if it sleeps here.

    PostgreSQL uses the number of a process again. The name of the application says that
    it is this listener still, and that it sleeps.
    """
    process = func.pg_stat_get_activity(number)
    found = process.table_valued("pid", "usesysid", "application_name")
    return select(func.pg_cancel_backend(found.c.pid)).where(
        found.c.application_name == name,
        # To cancel another role's would be an error in the server's log.
        func.pg_has_role(found.c.usesysid, "MEMBER"),
    )


def noted_cancellation() -> Select[Any]:
    """Select the cancellation that a stop before it has noted by :func:`note_ring`."""
    noted = func.current_setting(_NOTE, true())
    is_ours = func.split_part(noted, " ", 1) == bindparam("b_token", type_=Text)
    # Of no number, the server would list every process.
    number = case((is_ours, cast(func.split_part(noted, " ", 2), Integer)), else_=0)
    return cancellation(number, NAME_PREFIX + func.split_part(noted, " ", 3))


def note_ring(number: Any, worker_id: Any) -> Any:
    """Note the listener that a stop rings in a setting of the session, if it rings."""
    token = bindparam("b_token", type_=Text)
    text = token.concat(" ").concat(number).concat(" ").concat(worker_id)
    return func.set_config(_NOTE, func.coalesce(text, ""), false())

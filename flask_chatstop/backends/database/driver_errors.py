"""What a driver's error tells: its SQLSTATE, or the number that MySQL gives it."""

from typing import Any


def refuses_data(error: Any) -> bool:
    """Return whether a driver's error has a SQLSTATE that is about the data.

    Class 22 is a data exception, 23 a violated constraint, 44 a violated view, and the
    other two are what a trigger raises.
    """
    state = sqlstate_of(error) or ""
    return state[:2] in ("22", "23", "44") or state in ("45000", "P0001")


def sqlstate_of(error: Any) -> str | None:
    """Return the SQLSTATE of a driver's error, if the driver tells it."""
    state: str | None = getattr(error, "sqlstate", None)
    return state or getattr(error, "pgcode", None)


def number_of(error: Any) -> object:
    """Return the number of an error of MySQL, which drivers tell in two ways."""
    number = getattr(error, "errno", None)
    return number if number is not None else next(iter(error.args), None)

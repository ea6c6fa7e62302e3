"""Commands that PyMySQL sends to MariaDB before it has read what the last one returned.

The server takes one after the other from its socket, so each begins when the last one
is committed, and no round trip lies between them.
"""

from collections.abc import Sequence
from typing import Any

from flask_chatstop.backends.database.statements import is_servers


def can_pipeline(driver: Any) -> bool:
    """Return whether a connection is PyMySQL's, and leads to MariaDB."""
    names = ("_execute_command", "_read_query_result", "_next_seq_id", "_result")
    if not all(hasattr(driver, name) for name in names):
        return False
    return "MariaDB" in driver.get_server_info()


def send(driver: Any, statement: str) -> None:
    """Send a statement, and do not wait for its result."""
    from pymysql.constants.COMMAND import COM_QUERY

    driver._execute_command(COM_QUERY, statement)


def receive(driver: Any) -> Any:
    """Return the next result, which has ``affected_rows`` and ``rows``."""
    driver._next_seq_id = 1  # PyMySQL counts the packets of the last command only
    driver._read_query_result()
    return driver._result


def run_together(driver: Any, statements: Sequence[str]) -> Any:
    """Send statements at once, and return the result of the first.

    Errors of the others are passed over.
    """
    for statement in statements:
        send(driver, statement)
    results: list[Any] = []
    for _ in statements:
        try:
            results.append(receive(driver))
        except driver.Error as error:
            if not is_servers(error):
                raise
            results.append(error)
    if isinstance(results[0], Exception):
        raise results[0]
    return results[0]

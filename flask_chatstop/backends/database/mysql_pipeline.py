"""Commands that PyMySQL sends to MariaDB before it has read what the last one returned.

The server takes one after the other from its socket, so each begins when the last one
is committed, and no round trip lies between them.
"""

from collections.abc import Sequence
from typing import Any

from flask_chatstop.backends.database.statements import is_servers

#: For the next statement alone.
SEE_UNCOMMITTED = "SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED"


def can_pipeline(driver: Any) -> bool:
    """Return whether a connection is PyMySQL's, and leads to MariaDB."""
    names = ("_execute_command", "_read_query_result", "_next_seq_id", "_result")
    if not all(hasattr(driver, name) for name in names):
        return False
    return "MariaDB" in driver.get_server_info()


def send(driver: Any, statement: str) -> None:
    """Send a statement, and do not wait for its result."""
    from pymysql.constants.COMMAND import COM_QUERY

    # Bytes that are no text are in it as PyMySQL writes them.
    query = statement.encode(driver.encoding, "surrogateescape")
    driver._execute_command(COM_QUERY, query)


def receive(driver: Any) -> Any:
    """Return the next result, which has ``affected_rows`` and ``rows``."""
    driver._next_seq_id = 1  # PyMySQL counts the packets of the last command only
    driver._read_query_result()
    return driver._result


def run_together(driver: Any, statements: Sequence[str]) -> list[Any]:
    """Send statements at once, and return the result or the error of each.

    When the connection breaks, its error is that of all that is left.
    """
    for statement in statements:
        send(driver, statement)
    results: list[Any] = []
    while len(results) < len(statements):
        try:
            results.append(receive(driver))
        except driver.Error as error:
            left = len(statements) - len(results)
            results += [error] * (1 if is_servers(error) else left)
    return results


def checked(result: Any) -> Any:
    """Return a result of :func:`run_together`, or raise the error."""
    if isinstance(result, Exception):
        raise result
    return result

"""What an error of the database means, in words that contain no password."""

from sqlalchemy import Engine, Table

from flask_chatstop.backends.database.dialects import dialect_of
from flask_chatstop.errors import BackendError, RecordRefused


def failure(error: Exception, engine: Engine, name: str, table: Table) -> BackendError:
    """Return an error that says what is wrong and what to do.

    :param name: of the database, without its password.
    """
    orig = getattr(error, "orig", None) or error
    dialect = dialect_of(engine)
    if dialect.is_missing_table(orig):
        return BackendError(
            f"{name} has no table {table.fullname}; create it with"
            " `flask chatstop init-db`."
        )
    text = dialect.text_of(orig)
    for password in (engine.url.password, engine.url.query.get("password")):
        text = text.replace(str(password), "***") if password else text
    # Drivers let the error through when a character cannot be sent.
    if isinstance(orig, UnicodeEncodeError) or dialect.is_refusal(orig):
        return RecordRefused(f"{name}: {text}")
    return BackendError(f"{name}: {text}")

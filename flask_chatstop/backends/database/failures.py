"""What an error of the database means, in words that contain no password."""

from collections.abc import Sequence

from sqlalchemy import Engine, Table
from sqlalchemy.exc import SQLAlchemyError

from flask_chatstop.backends.database.dialects import dialect_of
from flask_chatstop.backends.secrets import holds, quotes_url, text_of_others
from flask_chatstop.errors import BackendError, RecordRefused


def failure(
    error: Exception, engine: Engine, name: str, tables: Sequence[Table]
) -> BackendError:
    """Return an error that says what is wrong and what to do.

    :param name: of the database, without its password.
    """
    orig = getattr(error, "orig", None) or error
    dialect = dialect_of(engine)
    if dialect.is_missing_table(orig):
        table = next((x for x in tables if x.name in str(orig)), tables[0])
        return BackendError(
            f"{name} has no table {table.fullname}; create it with"
            " `flask chatstop init-db`."
        )
    text = _text_of(orig, engine)
    # Drivers let the error through when a character cannot be sent.
    if isinstance(orig, UnicodeEncodeError) or dialect.is_refusal(orig):
        return RecordRefused(f"{name}: {text}")
    return BackendError(f"{name}: {text}")


def _text_of(error: Exception, engine: Engine) -> str:
    """Return the text of an error, without any password."""
    url, driver = engine.url, engine.dialect.dbapi
    known: tuple[type[Exception], ...] = (OSError, UnicodeError, SQLAlchemyError)
    if driver is not None:
        known += (driver.Error,)
    if not isinstance(error, known):
        return text_of_others(error)  # of the app's creator, say
    text = dialect_of(engine).text_of(error)
    shown = {url.username, url.host, url.database}
    passwords = {str(x) for x in (url.password, url.query.get("password")) if x}
    if any(holds(text, password) for password in passwords - shown) or quotes_url(text):
        return f"{type(error).__name__}, whose text is left out: it holds a password"
    return text

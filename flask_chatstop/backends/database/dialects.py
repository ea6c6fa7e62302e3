"""Which databases the backend knows, and which of them a URL or an engine names."""

import importlib.util

from sqlalchemy import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError

from flask_chatstop.backends.database.base import Dialect
from flask_chatstop.backends.database.mysql import MySQL
from flask_chatstop.backends.database.postgresql import PostgreSQL
from flask_chatstop.backends.database.sqlite import SQLite
from flask_chatstop.backends.secrets import has_unquoted_at
from flask_chatstop.errors import ConfigurationError

#: Each dialect by SQLAlchemy's name of it, which is also the scheme of its URLs.
_DIALECTS: dict[str, Dialect] = {
    "sqlite": SQLite(),
    "postgresql": PostgreSQL(),
    "mysql": MySQL(),
    "mariadb": MySQL(),
}


def dialect_of(source: URL | Engine) -> Dialect:
    """Return the dialect of an engine, or of a URL that :func:`parse_url` returned.

    :raises ConfigurationError: it is not an engine, or of another database.
    """
    if isinstance(source, URL):
        name = source.get_backend_name()
    else:
        name = source.dialect.name if isinstance(source, Engine) else repr(source)
    try:
        return _DIALECTS[name]
    except KeyError:
        raise ConfigurationError(
            f"The engine is {name}; use one of {', '.join(_DIALECTS)}."
        ) from None


def parse_url(url: str | URL) -> URL:
    """Parse a URL, and complete one without a driver by the driver that we know.

    :raises ConfigurationError: the URL is invalid; the message does not contain its
        password.
    """
    is_file = str(url).startswith("sqlite")
    if isinstance(url, str) and not is_file and has_unquoted_at(url):
        raise ConfigurationError(
            "The database URL has more than one @; write %40 for an @ in the password."
        )
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            "The database URL is invalid; write it like"
            " postgresql://user:password@host/name."
        ) from None
    scheme, _, driver = parsed.drivername.partition("+")
    dialect = _DIALECTS.get(scheme)
    if dialect is None or driver not in ("", dialect.driver):
        raise ConfigurationError(
            f"The database URL begins with {parsed.drivername}; use one of"
            f" {', '.join(_DIALECTS)}, or pass an engine."
        )
    # The driver is searched for and not imported: psycopg must see what gevent has
    # patched, and gunicorn patches after it has loaded the app when it preloads.
    if importlib.util.find_spec(dialect.module) is None:
        raise ConfigurationError(
            f"{scheme}:// needs the package {dialect.module}; run"
            f' `pip install "flask_chatstop[{dialect.extra}]"`.'
        )
    parsed = parsed.set(drivername=f"{scheme}+{dialect.driver}")
    dialect.check_url(parsed)
    try:
        # SQLAlchemy converts the options that it knows.
        url = parsed.difference_update_query(["plugin"])  # SQLAlchemy's own
        options = url.get_dialect()().create_connect_args(url)[1]
        dialect.check_options(dict(options))
    except (TypeError, ValueError, ArgumentError):
        # Their message may quote a value, and that a password.
        raise ConfigurationError(
            "An option of the database URL has a value that it cannot have, or no"
            f" driver knows it; it has the options {', '.join(parsed.query)}."
        ) from None
    return parsed

"""How the backend opens an engine: by a URL, or as an app's engine is made."""

from collections.abc import Callable

from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.pool import NullPool, QueuePool, StaticPool

from flask_chatstop.backends.database.connecting import Connecting
from flask_chatstop.backends.database.connections import Connections
from flask_chatstop.backends.database.dialects import dialect_of, parse_url
from flask_chatstop.backends.database.kept import KeptConnections
from flask_chatstop.backends.database.semaphore import FairSemaphore
from flask_chatstop.backends.secrets import text_of_others
from flask_chatstop.errors import BackendError, ChatStopError, ConfigurationError

Source = URL | Engine | Callable[[], Engine]

#: How many connections the backend has beside those of an app's engine.
_BESIDE_AN_APP = 5


def source_of(source: str | Source) -> Source:
    """Return what :func:`open_engine` takes.

    :raises ConfigurationError: it is a URL that cannot be used, or something else.
    """
    if isinstance(source, str | URL):
        return parse_url(source)
    if not isinstance(source, Engine) and not callable(source):
        raise ConfigurationError(
            f"The database is a {type(source).__name__}; pass a URL, an engine,"
            " or a function that returns an engine."
        )
    return source


def open_engine(source: Source, timeout: float) -> Connections:
    """Open an engine; nothing connects yet, unless a function that returns one does.

    :raises BackendError: the function returned no engine.
    :raises ConfigurationError: the backend does not know the database, or cannot use
        the engine.
    """
    if isinstance(source, URL):
        return _open_url(source, timeout)
    try:
        engine = source if isinstance(source, Engine) else source()
    except ChatStopError:
        raise
    except Exception as error:
        raise BackendError(
            f"The callable returned no engine: {text_of_others(error)}"
        ) from error
    # A file needs no more than its path. The wait for its lock can be limited only on
    # connections of our own.
    if dialect_of(engine).is_file:
        return _open_url(engine.url, timeout, is_shared=True)
    if isinstance(engine.pool, QueuePool | NullPool):
        return _open_beside(engine)
    if isinstance(engine.pool, StaticPool):
        raise ConfigurationError(
            "The engine has a StaticPool, whose one connection the threads of a worker"
            " and of the app would use at once; pass a URL, or an engine with another"
            " pool."
        )
    # One that hands out one connection a thread, say, is meant to.
    return Connections(engine.execution_options(isolation_level="AUTOCOMMIT"), None)


def _open_url(url: URL, timeout: float, *, is_shared: bool = False) -> Connections:
    dialect = dialect_of(url)
    engine = dialect.make_engine(url, timeout, is_shared=is_shared)
    turns = FairSemaphore(dialect.pool_size)
    return Connections(engine, turns, kept=KeptConnections(engine))


def _open_beside(engine: Engine) -> Connections:
    """Open an engine whose connections are made as the app's are, but are not them.

    The app's may all be in use, by streams that hold a session each. A stop must not
    wait for them.
    """
    # It keeps the creator and the handlers of events.
    pool = engine.pool.recreate()
    places = _BESIDE_AN_APP
    if isinstance(pool, QueuePool):
        # No more than it keeps open. Then nobody ever waits in the pool. 0: no limit.
        places = min(pool.size() or places, places)
    beside = create_engine(
        engine.url,
        pool=pool,
        module=engine.dialect.dbapi,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
    )
    options = dict(engine.get_execution_options())
    options.pop("isolation_level", None)
    return Connections(
        beside.execution_options(**options),
        FairSemaphore(places),
        connecting=Connecting(places),
    )

"""How the backend opens an engine: by a URL, or as an app's engine is made."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.pool import NullPool, QueuePool

from flask_chatstop.backends.database.connecting import Connecting
from flask_chatstop.backends.database.dialects import dialect_of
from flask_chatstop.backends.database.semaphore import FairSemaphore
from flask_chatstop.backends.secrets import text_of_others
from flask_chatstop.errors import BackendError, ChatStopError

Source = URL | Engine | Callable[[], Engine]

#: How many connections the backend has beside those of an app's engine.
_BESIDE_AN_APP = 5


@dataclass(frozen=True, slots=True)
class Opened:
    """An engine that has not connected yet.

    :param turns: bounds the connections of an engine of the backend's own. It is None
        where the engine's connections are the app's.
    :param connecting: bounds how long it takes to connect. It is None where that is
        the driver's to bound.
    """

    engine: Engine
    turns: FairSemaphore | None
    connecting: Connecting | None = None


def open_engine(source: Source, timeout: float) -> Opened:
    """Open an engine, which does no I/O unless a function that returns one does.

    :raises BackendError: the function returned no engine.
    :raises ConfigurationError: the backend does not know the database.
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
    # One that hands out the one connection, or one a thread, is meant to.
    return Opened(engine.execution_options(isolation_level="AUTOCOMMIT"), None)


def _open_url(url: URL, timeout: float, *, is_shared: bool = False) -> Opened:
    dialect = dialect_of(url)
    engine = dialect.make_engine(url, timeout, is_shared=is_shared)
    return Opened(engine, FairSemaphore(dialect.pool_size))


def _open_beside(engine: Engine) -> Opened:
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
    return Opened(
        beside.execution_options(**options), FairSemaphore(places), Connecting(places)
    )

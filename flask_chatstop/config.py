"""The configuration of an app, read once, when a ``ChatStop`` is registered.

These keys of ``app.config`` are read:

``CHATSTOP_API_KEYS``
    A mapping of API key to the name of the app behind it, or a list of keys that are
    an app each. ``sha256:`` and the hexadecimal digest of a key may stand in its
    place. Required unless ``auth`` is given to ``ChatStop``.
``CHATSTOP_BACKEND``
    A URL, like ``sqlite:///chatstop.db``, ``postgresql://``, ``mysql://`` or
    ``redis://``, or a :class:`~flask_chatstop.StopBackend`. Default ``memory://``, for
    one process.
``CHATSTOP_ENABLED``
    ``False`` leaves the routes out. ``start()`` and the streams then work without the
    store and without threads, for the tests of an app. Default ``True``.
``CHATSTOP_MISSING_OK``
    Answer the stop of an unknown task with success, as Dify's server does, instead of
    404. Default ``False``.
``CHATSTOP_LEASE``
    Seconds that a task stays known after its worker was killed. Running tasks are
    renewed. Default 60.
``CHATSTOP_RETENTION``
    Seconds that an ended task stays known, so that a late stop gets a true answer.
    Default 600.
``CHATSTOP_SWEEP_INTERVAL``
    Seconds between two reads of the store for stops whose notification to the worker
    was lost. At most the lease. Default 5.
``CHATSTOP_OPERATION_TIMEOUT``
    Seconds that one call to the store may take. At most the lease; so is the
    ``timeout`` of a backend that is an instance. Default 2.
``CHATSTOP_CLIENT_TIMEOUT``
    Seconds that a client may acknowledge or read nothing before its connection is
    closed, on Linux with gunicorn or Werkzeug's server. Default 30.
``CHATSTOP_EVENTS``
    Where answers are kept as they are sent, so that a client can come back to one: a
    URL like those of ``CHATSTOP_BACKEND``, or an
    :class:`~flask_chatstop.events.EventLog`. Adds the route
    ``GET /chat-messages/<task_id>/events``. Not set by default.
``CHATSTOP_EVENTS_MAX_BYTES``
    How much is kept of one answer. Default 8 MiB.
``CHATSTOP_TRACK_CALLS``
    Hang up on every HTTP call that the source of a stopped task has open, whatever
    library makes it. Hooks into httpcore, httpcore2 and urllib3. Default ``True``.
"""

import difflib
import logging
from dataclasses import dataclass

from flask import Flask, has_request_context, request

from flask_chatstop.backends import MemoryBackend, StopBackend, backend_from_url
from flask_chatstop.checks import byte_count, seconds
from flask_chatstop.errors import ConfigurationError
from flask_chatstop.events import (
    MAX_BYTES,
    EventLog,
    MemoryEventLog,
    events_from_url,
)
from flask_chatstop.events.writer import EventWriter
from flask_chatstop.keys import ApiKeys
from flask_chatstop.worker import DisabledWorker, Worker

logger = logging.getLogger(__name__)

_SECONDS = {
    "CHATSTOP_LEASE": 60.0,
    "CHATSTOP_RETENTION": 600.0,
    "CHATSTOP_OPERATION_TIMEOUT": 2.0,
    "CHATSTOP_SWEEP_INTERVAL": 5.0,
    "CHATSTOP_CLIENT_TIMEOUT": 30.0,
}
_OTHERS = (
    "CHATSTOP_API_KEYS",
    "CHATSTOP_BACKEND",
    "CHATSTOP_ENABLED",
    "CHATSTOP_EVENTS",
    "CHATSTOP_EVENTS_MAX_BYTES",
    "CHATSTOP_MISSING_OK",
    "CHATSTOP_TRACK_CALLS",
)


@dataclass(slots=True)
class AppState:
    """The state that every :class:`ChatStop` of one app shares.

    :param is_enabled: whether there are routes, a store and threads.
    :param keys: ``None`` if the app configures no API key.
    :param client_timeout: seconds that a client may acknowledge nothing.
    :param tracks_calls: whether a stop hangs up on the calls that a source makes.
    :param event_writer: keeps answers as they are sent; ``None`` if they are not kept.
    """

    is_enabled: bool
    worker: Worker
    event_writer: EventWriter | None
    keys: ApiKeys | None
    missing_ok: bool
    client_timeout: float
    tracks_calls: bool
    told_of_processes: bool = False

    @classmethod
    def of(cls, app: Flask) -> "AppState":
        """Return the state of an app, made from its configuration the first time.

        :raises ConfigurationError: a value is invalid; says what to set.
        """
        state = app.extensions.get("chatstop")
        if not isinstance(state, cls):
            state = app.extensions["chatstop"] = cls._from_config(app)
        return state

    def warn_of_processes(self) -> None:
        """Log an error, once, if stops may reach a process that knows no task."""
        if (
            self.told_of_processes
            or not has_request_context()
            or not request.environ.get("wsgi.multiprocess")
        ):
            return
        self.told_of_processes = True
        if isinstance(self.worker.backend, MemoryBackend):
            logger.error(
                "This server runs several processes, but the memory backend serves one:"
                " a stop that reaches another process does not find its task. Set"
                " CHATSTOP_BACKEND to a store that they share, or run one process with"
                " many threads."
            )
        writer = self.event_writer
        if writer is not None and isinstance(writer.events, MemoryEventLog):
            logger.error(
                "This server runs several processes, but CHATSTOP_EVENTS is the memory"
                " of one: who comes back to an answer through another process does not"
                " find it. Set CHATSTOP_EVENTS to a store that they share."
            )

    @classmethod
    def _from_config(cls, app: Flask) -> "AppState":
        keys = app.config.get("CHATSTOP_API_KEYS")
        is_enabled = _flag(app, "CHATSTOP_ENABLED", default=True)
        kind = Worker if is_enabled else DisabledWorker
        backend = _backend(app)
        sweep_interval = _seconds(app, "CHATSTOP_SWEEP_INTERVAL", longest=backend.lease)
        events = _events(app)
        _warn_of_unknown_keys(app)
        return cls(
            is_enabled=is_enabled,
            worker=kind(backend, sweep_interval=sweep_interval),
            event_writer=EventWriter(events) if events and is_enabled else None,
            keys=None if keys is None else ApiKeys(keys),
            missing_ok=_flag(app, "CHATSTOP_MISSING_OK", default=False),
            client_timeout=_seconds(app, "CHATSTOP_CLIENT_TIMEOUT"),
            tracks_calls=_flag(app, "CHATSTOP_TRACK_CALLS", default=True),
        )


def _backend(app: Flask) -> StopBackend:
    backend = app.config.get("CHATSTOP_BACKEND", "memory://")
    if isinstance(backend, StopBackend):
        for name in (
            "CHATSTOP_LEASE",
            "CHATSTOP_RETENTION",
            "CHATSTOP_OPERATION_TIMEOUT",
        ):
            if app.config.get(name) is not None:
                raise ConfigurationError(
                    f"{name} has no effect on a CHATSTOP_BACKEND that is an instance;"
                    f" give the value to {type(backend).__name__}() instead."
                )
        if backend.timeout > backend.lease:
            raise ConfigurationError(
                f"The timeout of CHATSTOP_BACKEND is {backend.timeout:g} s, which is"
                " longer than its lease: tasks would expire meanwhile. Give"
                f" {type(backend).__name__}() a timeout of at most {backend.lease:g},"
                " or a longer lease."
            )
        return backend
    if not isinstance(backend, str):
        raise ConfigurationError(
            f"CHATSTOP_BACKEND is a {type(backend).__name__}; set it to a URL like"
            " memory:// or to an instance of StopBackend."
        )
    lease = _seconds(app, "CHATSTOP_LEASE")
    times = {
        "lease": lease,
        "retention": _seconds(app, "CHATSTOP_RETENTION"),
        "timeout": _seconds(app, "CHATSTOP_OPERATION_TIMEOUT", longest=lease),
    }
    try:
        return backend_from_url(backend, **times)
    except ConfigurationError as error:
        raise ConfigurationError(f"CHATSTOP_BACKEND: {error}") from error


def _events(app: Flask) -> EventLog | None:
    events = app.config.get("CHATSTOP_EVENTS")
    max_bytes = app.config.get("CHATSTOP_EVENTS_MAX_BYTES")
    if max_bytes is not None:
        byte_count("CHATSTOP_EVENTS_MAX_BYTES", max_bytes)
    if isinstance(events, EventLog) and max_bytes is not None:
        raise ConfigurationError(
            "CHATSTOP_EVENTS_MAX_BYTES has no effect on a CHATSTOP_EVENTS that is an"
            f" instance; give the value to {type(events).__name__}() instead."
        )
    if events is None or isinstance(events, EventLog):
        return events
    if not isinstance(events, str):
        raise ConfigurationError(
            f"CHATSTOP_EVENTS is a {type(events).__name__}; set it to a URL like"
            " redis:// or to an instance of EventLog."
        )
    try:
        return events_from_url(
            events,
            retention=_seconds(app, "CHATSTOP_RETENTION"),
            timeout=_seconds(app, "CHATSTOP_OPERATION_TIMEOUT"),
            max_bytes=MAX_BYTES if max_bytes is None else max_bytes,
        )
    except ConfigurationError as error:
        raise ConfigurationError(f"CHATSTOP_EVENTS: {error}") from error


def _seconds(app: Flask, name: str, *, longest: float | None = None) -> float:
    """Return a number of seconds; the default gives way to ``longest``."""
    value = app.config.get(name)
    if value is None:
        return _SECONDS[name] if longest is None else min(_SECONDS[name], longest)
    found = seconds(name, value)
    if longest is not None and found > longest:
        raise ConfigurationError(
            f"{name} is {value!r}, which is longer than the lease: tasks would expire"
            f" meanwhile. Set it to at most {longest:g}, or set a longer lease."
        )
    return found


def _warn_of_unknown_keys(app: Flask) -> None:
    known = {*_SECONDS, *_OTHERS}
    for name in sorted(key for key in app.config if key.startswith("CHATSTOP_")):
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.85)
            advice = f"; did you mean {near[0]}?" if near else "."
            logger.warning("%s is no setting of chatstop%s", name, advice)


def _flag(app: Flask, name: str, *, default: bool) -> bool:
    value = app.config.get(name, default)
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name} is {value!r}; set it to True or False.")
    return value

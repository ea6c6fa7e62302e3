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
    library makes it. Hooks into httpcore, httpcore2, urllib3 and aiohttp. Default
    ``True``.
"""

import difflib

from flask import Flask

from flask_chatstop.backends import StopBackend, backend_from_url
from flask_chatstop.checks import byte_count, seconds
from flask_chatstop.errors import ConfigurationError
from flask_chatstop.events import MAX_BYTES, EventLog, events_from_url
from flask_chatstop.logs import get_logger

logger = get_logger(__name__)

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


def backend_of(app: Flask) -> StopBackend:
    """Return the store of tasks, which connects when it is used.

    :raises ConfigurationError: a value is invalid; the same for all that is read here.
    """
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
    lease = seconds_of(app, "CHATSTOP_LEASE")
    times = {
        "lease": lease,
        "retention": seconds_of(app, "CHATSTOP_RETENTION"),
        "timeout": seconds_of(app, "CHATSTOP_OPERATION_TIMEOUT", longest=lease),
    }
    try:
        return backend_from_url(backend, **times)
    except ConfigurationError as error:
        raise ConfigurationError(f"CHATSTOP_BACKEND: {error}") from error


def events_of(app: Flask) -> EventLog | None:
    """Return the log of answers, if answers are to be kept."""
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
            retention=seconds_of(app, "CHATSTOP_RETENTION"),
            timeout=seconds_of(app, "CHATSTOP_OPERATION_TIMEOUT"),
            max_bytes=MAX_BYTES if max_bytes is None else max_bytes,
        )
    except ConfigurationError as error:
        raise ConfigurationError(f"CHATSTOP_EVENTS: {error}") from error


def seconds_of(app: Flask, name: str, *, longest: float | None = None) -> float:
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


def warn_of_unknown_keys(app: Flask) -> None:
    """Log each key that begins like ours and is none, with the one that was meant."""
    known = {*_SECONDS, *_OTHERS}
    for name in sorted(key for key in app.config if key.startswith("CHATSTOP_")):
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.85)
            advice = f"; did you mean {near[0]}?" if near else "."
            logger.warning("%s is no setting of chatstop%s", name, advice)


def flag(app: Flask, name: str, *, default: bool) -> bool:
    """Return a setting that is either on or off."""
    value = app.config.get(name, default)
    if not isinstance(value, bool):
        raise ConfigurationError(
            f"{name} is {value!r}; set it to True or False, or in an environment"
            " variable to true or false."
        )
    return value

"""The state of an app, made from its configuration."""

from dataclasses import dataclass

from flask import Flask, has_request_context, request

from flask_chatstop.backends import MemoryBackend
from flask_chatstop.config import (
    backend_of,
    events_of,
    flag,
    seconds_of,
    warn_of_unknown_keys,
)
from flask_chatstop.events import MemoryEventLog
from flask_chatstop.events.writer import EventWriter
from flask_chatstop.keys import ApiKeys
from flask_chatstop.logs import get_logger
from flask_chatstop.worker import DisabledWorker, Worker

logger = get_logger(__name__)


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
        is_enabled = flag(app, "CHATSTOP_ENABLED", default=True)
        kind = Worker if is_enabled else DisabledWorker
        backend = backend_of(app)
        sweep_interval = seconds_of(
            app, "CHATSTOP_SWEEP_INTERVAL", longest=backend.lease
        )
        events = events_of(app)
        warn_of_unknown_keys(app)
        return cls(
            is_enabled=is_enabled,
            worker=kind(backend, sweep_interval=sweep_interval),
            event_writer=EventWriter(events) if events and is_enabled else None,
            keys=None if keys is None else ApiKeys(keys),
            missing_ok=flag(app, "CHATSTOP_MISSING_OK", default=False),
            client_timeout=seconds_of(app, "CHATSTOP_CLIENT_TIMEOUT"),
            tracks_calls=flag(app, "CHATSTOP_TRACK_CALLS", default=True),
        )

"""The signals of flask_chatstop, sent with the Flask app as their sender."""

from typing import Any

from blinker import NamedSignal, Namespace
from flask import Flask

from flask_chatstop.logs import get_logger

logger = get_logger(__name__)

_signals = Namespace()

#: Sent when a task has begun, with ``task``, the
#: :class:`~flask_chatstop.GenerationTask`.
task_started = _signals.signal("chatstop-task-started")

#: Sent when an authorised and valid stop has been carried out, with ``task_id``,
#: ``owner``, the :class:`~flask_chatstop.Owner` who sent it, and ``outcome``, the
#: :class:`~flask_chatstop.StopOutcome`.
stop_requested = _signals.signal("chatstop-stop-requested")

#: Sent once for each task, after its ``on_end``, with ``task``, ``reason``, the
#: :class:`~flask_chatstop.EndReason`, ``duration``, the seconds since the task began,
#: and ``calls_cut``, how many HTTP calls of its source are hung up on.
task_ended = _signals.signal("chatstop-task-ended")


def send(signal: NamedSignal, app: Flask, **values: Any) -> None:
    """Send a signal, and log what a receiver raises."""
    try:
        signal.send(app, **values)
    except Exception:  # a receiver is the app's code; the task goes on
        logger.exception("A receiver of %s failed.", signal.name)

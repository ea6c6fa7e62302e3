"""Running something in a thread of its own, and an interrupt that hits it there."""

import _thread
import sys
from collections.abc import Callable
from typing import Any

from flask_chatstop.greenlets import threads_are_greenlets
from flask_chatstop.logs import get_logger

logger = get_logger(__name__)


def start_thread(
    act: Callable[..., object],
    *arguments: object,
    instead: Callable[[], object] | None = None,
) -> None:
    """Call ``act(*arguments)`` in a new daemon thread and return at once.

    Where the system has no thread left, the call is made here, before returning.
    An exception is logged.

    :param instead: called here in place of ``act`` where there is no thread left.
    """
    try:
        # threading.Thread.start() waits until the thread runs. A stop must not wait:
        # the stream's reader has to get the interpreter first and send the last bytes.
        _thread.start_new_thread(_call, (act, *arguments))
    except RuntimeError:
        if instead is None:
            _call(act, *arguments)
        else:
            _call(instead)


def pass_on_interrupt(error: BaseException) -> None:
    """Let Ctrl-C end the process though gevent has raised it in this thread.

    The main thread gets the signal. Under gevent, all greenlets run there, and
    ``KeyboardInterrupt`` is raised in the one that happens to run. To be called by a
    thread that goes on after any error.
    """
    if threads_are_greenlets() and isinstance(error, KeyboardInterrupt):
        # At once, as gevent does it where an error ends a bare greenlet. A main
        # greenlet that reads this source would else be told of its end before. The call
        # returns when the hub has the turn again.
        hub = sys.modules["gevent"].get_hub()
        hub.handle_system_error(type(error), error)


def _call(*call: Any) -> None:
    act, *arguments = call
    try:
        act(*arguments)
    except Exception:
        logger.exception("%s failed.", getattr(act, "__qualname__", repr(act)))

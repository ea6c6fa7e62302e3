"""Running something in a thread of its own."""

import _thread
import logging
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)


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


def _call(*call: Any) -> None:
    act, *arguments = call
    try:
        act(*arguments)
    except Exception:
        logger.exception("%s failed.", getattr(act, "__qualname__", repr(act)))

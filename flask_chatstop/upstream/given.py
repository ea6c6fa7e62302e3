"""Hanging up on what the app gives as ``upstream``."""

import time
from collections.abc import Callable

from flask_chatstop.logs import get_logger
from flask_chatstop.upstream.hang_up import hang_up, warn_of_unknown

logger = get_logger(__name__)

#: Seconds between two looks at what a closed source reads: at first, and at last.
_SOON, _LATER = 0.05, 0.25
#: Seconds after which a source that still runs is looked at ever less often.
_PATIENCE, _LATEST = 10.0, 30.0
#: Seconds after which a source that still runs is left alone.
_GIVEN_UP = 600.0


class GivenUpstream:
    """The response to hang up on, or a callable that returns the one being read now.

    :param is_source: it is the source itself, which may be a response or may not.
    """

    __slots__ = ("_has_failed", "_is_source", "_left", "_upstream")

    def __init__(self, upstream: object, *, is_source: bool = False) -> None:
        self._upstream = upstream
        self._is_source = is_source
        self._left: object = None
        self._has_failed = False

    @property
    def is_looked_up(self) -> bool:
        """Whether it is a callable, and so the app's code."""
        return callable(self._upstream) and not self._is_source

    def now(self) -> object:
        """Return what is being read now; raises what the callable raises."""
        if callable(self._upstream) and not self._is_source:
            return self._upstream()
        return self._upstream

    def hang_up(self) -> None:
        """Hang up, once on each response; log what goes wrong, once."""
        try:
            upstream = self.now()
            if upstream is not self._left:
                self._left = upstream
                if not hang_up(upstream) and not self._is_source:
                    warn_of_unknown(upstream)
        except Exception:  # it is the app's object, and the end goes on
            if not self._has_failed:
                self._has_failed = True
                logger.exception("Could not hang up on the upstream.")

    def hang_up_until(self, is_over: Callable[[], bool]) -> None:
        """Hang up on each response that appears, until the source is over.

        The source may be waiting for the headers of a response, or ask for another
        one. If that stays silent, its thread would wait for ever. A source that waits
        for something else may never end, so this ends some time.
        """
        self.hang_up()
        began, pause = time.monotonic(), _SOON
        while not is_over():
            time.sleep(pause)
            waited = time.monotonic() - began
            if waited > _GIVEN_UP:
                logger.warning(
                    "A source still runs %.0f s after its end; its upstream is not"
                    " looked up any more.",
                    waited,
                )
                return
            pause = min(2 * pause, _LATEST if waited > _PATIENCE else _LATER)
            if not is_over():
                self.hang_up()

"""Stopping a task: its reader is woken first, then everything is hung up on."""

import os
import threading
from typing import Any

from flask import Flask

from flask_chatstop.backends import EndReason
from flask_chatstop.generation.reader import Reader
from flask_chatstop.generation.streaming import StreamingTask
from flask_chatstop.threads import start_thread
from flask_chatstop.upstream.calls import Calls

#: Seconds that a stop waits at most for the reader that it woke, which sends the last
#: bytes and then hangs up.
_FOR_THE_READER = 0.001
#: Seconds until a stop reports the end itself, since its reader has not done so.
_STALLED = 1.0


class StoppableTask(StreamingTask):
    """A task that can be stopped by any thread."""

    def __init__(self, app: Flask, calls: Calls, is_inline: bool) -> None:
        super().__init__(app, calls, is_inline)
        self._stop_reason = EndReason.STOPPED
        #: The process that runs it.
        self._pid: int | None = None
        #: Whether the app has been told of the end, and what those wait for who wait.
        self._is_reported = False
        self._reported: threading.Event | None = None

    @property
    def _is_copy(self) -> bool:
        """Whether this is a forked child's copy of a task that its parent runs."""
        return self._pid not in (None, os.getpid())

    def stop(self) -> bool:
        """Stop the generation here and now; any thread may call it.

        Wakes the stream's reader, and waits a millisecond at most until it has sent the
        last bytes. Hanging up, unless the reader does it, and the callbacks of
        :meth:`on_stop` run in threads of their own, so that a slow one delays no other
        stop.

        :returns: whether the generation was still running. In a forked child, a copy
            of a task that the parent runs is left alone and ``False`` is returned.
        """
        return self._stop(EndReason.STOPPED)

    def time_out(self) -> None:
        """Do what a stop does; the reason of the end is ``timed_out``."""
        self._stop(EndReason.TIMED_OUT)

    def _stop(self, reason: EndReason) -> bool:
        if self._is_copy:
            return False
        with self._lock:
            if self._end_reason is not None:
                return False
            # A stop wins over a time limit that is over just before it: whoever stops
            # the task is told that it was stopped.
            if not self._stopped or reason is EndReason.STOPPED:
                self._stop_reason = reason
            if self._stopped:
                return True
            self._stopped = True
            self._calls.refuse()
            if self._unwanted is not None:
                self._unwanted.set()
            callbacks, self._on_stop = self._on_stop, ()
            source = self._source
        if self._is_inline:
            for callback in callbacks:
                self._call_on_stop(callback)
            return True
        if source is None:
            start_thread(self._calls.cut)
        elif not source.wake(_FOR_THE_READER) or not self._is_reported:
            start_thread(self._hang_up_on, source)
        for callback in callbacks:
            start_thread(self._call_on_stop, callback)
        return True

    def _hang_up_on(self, source: Reader[Any]) -> None:
        source.close()
        # A reader whose client has stalled cannot report the end.
        if not self._wait_for_report(_STALLED):
            self.end(self._stop_reason)

    def _note_report(self) -> None:
        with self._lock:
            self._is_reported = True
            reported = self._reported
        if reported is not None:
            reported.set()

    def _wait_for_report(self, seconds: float | None = None) -> bool:
        with self._lock:
            if self._is_reported:
                return True
            if self._reported is None:
                self._reported = threading.Event()
        return self._reported.wait(seconds)

"""The threads of a worker: no error ends them, and one that is gone is replaced."""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import Protocol

from flask_chatstop.logs import get_logger
from flask_chatstop.threads import pass_on_interrupt

logger = get_logger(__name__)

#: Seconds to wait after an error, whatever the loop itself does about it.
_AFTER_AN_ERROR = 0.01


class Loop(Protocol):
    """What a thread does again and again."""

    @property
    def name(self) -> str: ...

    def turn(self, closing: threading.Event) -> None:
        """Do it once; ``closing`` ends it early."""

    def failed(self, error: BaseException) -> None:
        """Note that :meth:`turn` has raised an error."""


class Loops:
    """Daemon threads, one for each loop, that begin and end together.

    Only ``SystemExit`` and gevent's ``GreenletExit`` end a thread before its time, and
    then another one takes its place. If a thread has gone in any other way, the next
    call of :meth:`begin` replaces it.

    :param begun: is called when the threads begin.
    :param replaced: is called when a thread takes the place of one that was gone.
    """

    def __init__(
        self, *loops: Loop, begun: Callable[[], None], replaced: Callable[[], None]
    ) -> None:
        self._loops = loops
        self._begun = begun
        self._replaced = replaced
        # Reentrant: the garbage collector may run an app's own `finally: task.end()`
        # in the thread that holds it.
        self._lock = threading.RLock()
        self._is_beginning = False
        self._pid = os.getpid()
        self._threads: dict[str, threading.Thread] = {}
        self.closing: threading.Event | None = None

    def begin(self) -> None:
        """Begin the threads that do not run.

        :raises RuntimeError: there are too many threads; a later call tries again.
        """
        with self._lock:
            gone = [loop for loop in self._loops if not self._is_alive(loop)]
            if gone and not self._is_beginning:
                self._is_beginning = True
                try:
                    self._start(gone)
                finally:
                    self._is_beginning = False

    def try_to_begin(self) -> None:
        """Begin the threads that do not run; log it if there are too many."""
        try:
            self.begin()
        except RuntimeError as error:
            message = "The threads of the worker could not begin: %s"
            logger.error(message, error)

    def replace_gone(self) -> None:
        """Begin the threads that are gone, unless all have ended."""
        with self._lock:
            if self.closing is not None and not self._is_over(self.closing):
                self.try_to_begin()

    def end_if(self, is_over: Callable[[], bool]) -> bool:
        """Let all threads end if there is nothing left to do, and tell whether."""
        with self._lock:
            if not is_over():
                return False
            self._let_go()
            return True

    def _start(self, gone: list[Loop]) -> None:
        if self.closing is None:
            self.closing = threading.Event()
            self._begun()
        else:
            self._replaced()
        try:
            for loop in gone:
                thread = self._threads[loop.name] = threading.Thread(
                    target=self._run,
                    args=(loop, self.closing),
                    name=f"chatstop_{loop.name}",
                    daemon=True,
                )
                thread.start()
        except BaseException:
            if len(gone) == len(self._loops):
                self._let_go()
            raise

    def _is_alive(self, loop: Loop) -> bool:
        thread = self._threads.get(loop.name)
        return thread is not None and thread.is_alive()

    def _let_go(self) -> None:
        closing, self.closing = self.closing, None
        self._threads = {}
        if closing is not None:
            closing.set()

    def _run(self, loop: Loop, closing: threading.Event) -> None:
        try:
            while not self._is_over(closing):
                try:
                    _turn(loop, closing)
                except BaseException as error:
                    if _is_exit(error):
                        return
                    pass_on_interrupt(error)
                    with contextlib.suppress(Exception):
                        time.sleep(_AFTER_AN_ERROR)
        finally:
            if os.getpid() != self._pid:
                # A greenlet in a forked child, where its end would be an error, since
                # threading has forgotten it.
                threading.Event().wait()
            if not closing.is_set():
                self._leave(loop)

    def _is_over(self, closing: threading.Event) -> bool:
        # Under gevent, the greenlets of the parent go on in a forked child.
        return closing.is_set() or os.getpid() != self._pid

    def _leave(self, loop: Loop) -> None:
        with self._lock:
            if self._threads.get(loop.name) is threading.current_thread():
                del self._threads[loop.name]
        self.try_to_begin()


def _turn(loop: Loop, closing: threading.Event) -> None:
    try:
        loop.turn(closing)
    except BaseException as error:
        loop.failed(error)
        raise


def _is_exit(error: BaseException) -> bool:
    # By its name, since greenlets exist only where gevent is installed.
    return isinstance(error, SystemExit) or type(error).__name__ == "GreenletExit"

"""The threads that a test begins, apart from those that earlier tests have left."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def threads_begun() -> Iterator[list[threading.Thread]]:
    """Collect the threads that the caller's thread begins.

    ``threading.enumerate()`` tells of all others too: what an earlier test has left may
    begin one at any time.
    """
    begun: list[threading.Thread] = []
    begin, mine = threading.Thread.start, threading.get_ident()

    def note(thread: threading.Thread) -> None:
        begin(thread)
        if threading.get_ident() == mine:
            begun.append(thread)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", note)
        yield begun


def are_over(threads: list[threading.Thread]) -> bool:
    """Tell whether none of some threads runs any more."""
    return not any(thread.is_alive() for thread in threads)

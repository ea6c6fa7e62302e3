"""What a forked child does first, also after a fork that Python is not told of.

uWSGI loads the app, forks its processes, and does not call Python's hooks unless
``py-call-uwsgi-fork-hooks`` is set. A child would take the state of its parent for its
own. Some systems, like Windows, have no forks.
"""

import os
import threading
from collections.abc import Callable

# State of the whole process, because a fork concerns all of it.
_callbacks: list[Callable[[], None]] = []
_pid = os.getpid()
_lock = threading.Lock()


def call_in_child(callback: Callable[[], None]) -> None:
    """Have ``callback()`` called in each forked child, in the order of registration."""
    _callbacks.append(callback)


def notice_fork() -> None:
    """Call the callbacks if this is a child whose fork Python was not told of.

    It must come before the first use of anything that a child has to replace.
    """
    if os.getpid() == _pid:
        return
    with _lock:  # of two threads of the child, the second one waits for the first
        if os.getpid() != _pid:
            _in_child()


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it
    _in_child()


def _in_child() -> None:
    global _pid
    for callback in _callbacks:
        callback()
    _pid = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

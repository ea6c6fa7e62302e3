"""What differs if gevent has made greenlets of the threads."""

import sys
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")


def threads_are_greenlets() -> bool:
    """Return whether gevent has patched threads."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def call_on_own_stack(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function; under gevent free the memory of its frames afterwards.

    Python keeps the frames of each greenlet in 16 KiB of its own, and a page of them
    that was touched once stays. A greenlet that waits in a few frames for hours would
    hold a page more for a deep call at its beginning. So the call is made in a greenlet
    that ends with it. It has the caller's context variables, and gets what is raised in
    the caller meanwhile, like a ``gevent.Timeout``.
    """
    if not threads_are_greenlets():
        return function(*args, **kwargs)
    greenlet = sys.modules["greenlet"]
    callee = greenlet.greenlet(function)
    callee.gr_context = greenlet.getcurrent().gr_context
    go_on = partial(callee.switch, *args, **kwargs)
    try:
        while True:
            try:
                result = go_on()
                break
            except BaseException as error:
                if callee.dead:
                    raise
                go_on = partial(callee.throw, error)
    finally:
        del go_on  # the error has this frame, and would be a cycle
    if isinstance(result, greenlet.GreenletExit):
        raise result  # a greenlet returns the one that it ends by
    return cast(T, result)

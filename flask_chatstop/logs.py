"""Logging that cannot fail, since an app's own filters and handlers may."""

import contextlib
import logging
import traceback
from typing import Any


class Logger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose calls return whatever an app's filters and handlers raise.

    Such an error is printed as logging prints those of a handler that cannot write.
    A filter that reads ``flask.request`` fails in every thread that serves no request;
    the thread goes on.
    """

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        try:
            # One more level: the caller's line is wanted, and not this one.
            super().log(level, msg, *args, stacklevel=2, **kwargs)
        except Exception:
            if logging.raiseExceptions:
                with contextlib.suppress(Exception):
                    traceback.print_exc()


def get_logger(name: str) -> Logger:
    """Return the logger of a module.

    :param name: the module's ``__name__``.
    """
    return Logger(logging.getLogger(name))

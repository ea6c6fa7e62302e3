"""Logging that cannot fail, for what has to go on."""

import contextlib
import logging
import traceback


def log(
    logger: logging.Logger,
    level: int,
    message: str,
    *args: object,
    error: BaseException | None = None,
) -> None:
    """Log a message; an app's own filter or handler that fails is only printed.

    A filter that reads ``flask.request`` fails in a thread that serves no request.

    :param error: is logged with its traceback.
    """
    try:
        logger.log(level, message, *args, exc_info=error, stacklevel=2)
    except Exception:
        # As logging does where a handler fails to write.
        if logging.raiseExceptions:
            with contextlib.suppress(Exception):
                traceback.print_exc()

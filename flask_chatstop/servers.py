"""What a server or its settings keep from working, logged once in each process."""

import importlib
from collections.abc import Mapping
from typing import Any

from flask import has_request_context, request

from flask_chatstop.logs import get_logger

logger = get_logger(__name__)

# State of the whole process, because it has one server.
_told: set[str] = set()


def warn_of_server() -> None:
    """Log a warning if the server of this request limits what a chat can do."""
    if not has_request_context():
        return
    environ = request.environ
    if is_asgi_adapter(environ):
        _tell(
            "This app seems to be behind an adapter from ASGI to WSGI, which does not"
            " report that a client has left: the generation goes on to its end. Stops"
            " work. Run the app on a WSGI server, like gunicorn, to end it."
        )
    elif lacks_threads(environ):
        _tell(
            "uWSGI runs the threads of this process only while it serves a request: the"
            " end of a generation is reported with the next one. Set enable-threads."
        )


def is_asgi_adapter(environ: Mapping[str, Any]) -> bool:
    """Return whether an environment is made from the scope of an ASGI server.

    a2wsgi, which uvicorn uses too, includes the scope. The adapters of hypercorn and
    asgiref are known by what they leave out: they always announce both threads and
    processes, and neither name the server nor offer to send files.
    """
    return "asgi.scope" in environ or bool(
        environ.get("wsgi.multithread")
        and environ.get("wsgi.multiprocess")
        and "SERVER_SOFTWARE" not in environ
        and "wsgi.file_wrapper" not in environ
    )


def lacks_threads(environ: Mapping[str, Any]) -> bool:
    """Return whether a uWSGI before 2.0.27 runs without ``enable-threads``.

    It keeps the interpreter's lock while it waits for a request.
    """
    if "uwsgi.version" not in environ:
        return False
    try:
        uwsgi = importlib.import_module("uwsgi")  # only in its processes
    except ImportError:
        return False
    return not getattr(uwsgi, "has_threads", True)


def _tell(message: str) -> None:
    if message not in _told:
        _told.add(message)
        logger.warning(message)

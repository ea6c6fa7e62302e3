"""Let a client of a tested app see and choose the worker that takes its request."""

import os

from flask import Flask, Response, request


def offer(app: Flask) -> None:
    """Name the worker in each answer, and refuse who asked for another one."""
    app.before_request(_refuse_if_unwanted)
    app.after_request(_tell_pid)


def _refuse_if_unwanted() -> Response | None:
    pid = str(os.getpid())
    is_wanted = request.headers.get("By", pid) == pid
    is_unwanted = request.headers.get("Not-By") == pid
    return None if is_wanted and not is_unwanted else Response(status=421)


def _tell_pid(response: Response) -> Response:
    response.headers["Pid"] = str(os.getpid())
    return response

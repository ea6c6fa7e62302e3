"""Ending the tasks of a request that has failed."""

import weakref
from functools import partial

from flask import Response, after_this_request, g, has_request_context

from flask_chatstop.backends import EndReason
from flask_chatstop.generation.task import GenerationTask


def end_with_request(task: GenerationTask) -> None:
    """End a task as failed if the current request fails before it has a stream.

    Waiting for the garbage collector could take long, since a traceback may keep the
    task alive.
    """
    if has_request_context():
        reference = weakref.ref(task)
        after_this_request(partial(_end_if_refused, reference))
        g.setdefault("_chatstop_begun", []).append(reference)


def end_if_raised(error: BaseException | None) -> None:
    """End the tasks of a request whose view has raised; for ``teardown_request``."""
    # In debug mode and in tests there may be no response. A client that leaves a
    # stream_with_context() causes a GeneratorExit, which is not an Exception.
    if isinstance(error, Exception):
        for reference in g.get("_chatstop_begun", ()):
            if task := reference():
                task.end(EndReason.FAILED)


def _end_if_refused(
    reference: weakref.ref[GenerationTask], response: Response
) -> Response:
    task = reference()
    if task is not None and response.status_code >= 400:
        task.end(EndReason.FAILED)
    return response

"""Browsers that connect again to a stream that they have lost."""

from flask import abort, has_request_context, request

from flask_chatstop.route.responses import empty_response


def refuse_reconnect() -> None:
    """Answer 204 to a request that goes on with an event stream.

    An ``EventSource`` that loses its connection sends its request again, with the id of
    the last event, and so does ``fetch-event-source`` with a POST. An app that takes it
    for a new request asks the model the same question again. A 204 tells the browser
    not to come back: https://html.spec.whatwg.org/multipage/server-sent-events.html.

    :raises HTTPException: the request has a ``Last-Event-ID``.
    """
    if has_request_context() and "Last-Event-ID" in request.headers:
        abort(empty_response())

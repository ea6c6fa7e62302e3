"""The request of somebody who comes back to an answer, and what is sent to them."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

from flask import Response, current_app, request
from werkzeug.exceptions import HTTPException

from flask_chatstop.backends import Owner
from flask_chatstop.bodies import streamed_response
from flask_chatstop.checks import is_id
from flask_chatstop.errors import BackendError, InvalidParam
from flask_chatstop.events import Page
from flask_chatstop.events.follower import Follower
from flask_chatstop.events.records import END, LOST_END, Head, log_id_of, unpack
from flask_chatstop.events.writer import EventWriter
from flask_chatstop.generation.client_timeout import set_client_timeout
from flask_chatstop.logs import get_logger
from flask_chatstop.route.auth import Caller
from flask_chatstop.route.responses import (
    RouteError,
    as_json_error,
    empty_response,
    error_response,
    method_response,
    unavailable_response,
)
from flask_chatstop.route.stop import check_user
from flask_chatstop.state import AppState
from flask_chatstop.worker import Worker

logger = get_logger(__name__)

_POSITION = re.compile("[0-9]{1,9}", re.ASCII)
#: Seconds between two looks for an answer that is just beginning.
_PAUSE = 0.02
#: Seconds for which it is looked for, and the same if its task has ended already.
_BEGINNING, _ENDED = 2.0, 0.5
#: Requests for answers of ended tasks that are looked for at once. Each holds a
#: server's thread.
_places = threading.BoundedSemaphore(8)


class EventsRoute:
    """The view of ``GET .../<task_id>/events``.

    :param state: returns the state of the current app.
    """

    def __init__(self, caller: Caller, state: Callable[[], AppState]) -> None:
        self._caller = caller
        self._state = state
        self._guarded_follow = caller.auth.login_required(self._follow)

    def dispatch(self, task_id: str, **_of_the_prefix: object) -> Response:
        """Answer any request to the route; the contract's JSON for every error."""
        if request.method not in ("GET", "HEAD"):
            return method_response("GET, HEAD, OPTIONS", "Use GET to read an answer.")
        try:
            answer = self._guarded_follow(task_id)
        except HTTPException as error:  # before an error page of the app sees it
            return error_response(error)
        except BackendError as error:
            logger.error("An answer could not be read: %s", error)
            return unavailable_response("The answer could not be read; try again.")
        if isinstance(answer, Response):
            return as_json_error(answer)
        return as_json_error(current_app.make_response(answer))

    def _follow(self, task_id: str) -> Response:
        state = self._state()
        writer = state.event_writer
        position = _read_position()
        owner = self._read_owner()
        if owner is None or writer is None or not is_id(task_id):
            raise _not_found()
        log_id = log_id_of(task_id, owner)
        after = -1 if position is None else position
        page = writer.events.read(log_id, after)
        if page is None:
            page = _look_if_known(state.worker, writer, task_id, owner, after)
        if page is None:
            state.warn_of_processes()
            raise _not_found()
        if position is None or _has_all(page, position):
            return empty_response()
        response = _response_of(Head.unpacked(page.head))
        if request.method == "GET":
            set_client_timeout(state.client_timeout)
            follower = Follower(
                writer,
                log_id,
                page,
                position,
                lease_left=partial(state.worker.lease_left, task_id, owner),
                lease=state.worker.backend.lease,
            )
            response.response = follower
            response.call_on_close(follower.close)
        return response

    def _read_owner(self) -> Owner | None:
        """Return who asks; ``None`` for a user who is not the one of the session.

        :raises InvalidParam: the user is invalid.
        :raises RouteError: nobody is logged in.
        """
        loaded = self._caller.loaded_user()
        if self._caller.user_loader is not None and loaded is None:
            raise RouteError(403, "forbidden", "Nobody is logged in.")
        user = check_user(request.args.get("user", loaded))
        return None if loaded not in (None, user) else self._caller.owner(user)


def _read_position() -> int | None:
    """Return after which frame to go on; ``None`` after the last one of all.

    :raises InvalidParam: it is none that an event has had as its id.
    """
    # A browser that reconnects repeats the query, so its header is newer.
    text = request.headers.get("Last-Event-ID") or request.args.get("after", "")
    if text == LOST_END:
        return None
    if text and not _POSITION.fullmatch(text):
        raise InvalidParam("The position must be the id of an event of this answer.")
    return int(text or 0)


def _look_if_known(
    worker: Worker, writer: EventWriter, task_id: str, owner: Owner, position: int
) -> Page | None:
    """Return the first page after a position of an answer that just begins."""
    # The client has the task id before the first batch is written. A short answer may
    # even have ended before.
    log_id = log_id_of(task_id, owner)
    if writer.arrivals.is_ours(log_id) or worker.is_open(task_id, owner):
        return _look(writer, log_id, position, _BEGINNING)
    if not worker.may_have_ended(task_id, owner) or not _places.acquire(blocking=False):
        return None
    try:
        return _look(writer, log_id, position, _ENDED)
    finally:
        _places.release()


def _look(
    writer: EventWriter, log_id: str, position: int, seconds: float
) -> Page | None:
    deadline = time.monotonic() + seconds
    pause = _PAUSE
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(pause, left))
        page = writer.events.read(log_id, position)
        if page is not None:
            return page
        pause *= 1.5
    return None


def _has_all(page: Page, position: int) -> bool:
    """Tell whether a client with this position has read the end."""
    if not page.records or page.records[0].number != END:
        return False
    return position >= unpack(page.records[0].data).last


def _response_of(head: Head) -> Response:
    """Return a response with the headers of the one that the first client has got."""
    body: Iterator[bytes] = iter(())  # whose length is unknown
    return streamed_response(
        current_app, body, mimetype=head.content_type, headers=dict(head.headers)
    )


def _not_found() -> RouteError:
    return RouteError(404, "task_not_found", "There is no such task of this user.")

"""An app whose stop route is attacked, and what must hold after every request."""

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from flask import Flask

from flask_chatstop import ChatStop, EndReason, GenerationTask, Owner, StopBackend
from flask_chatstop.backends import TaskRecord
from flask_chatstop.formats import DifyEvents
from flask_chatstop.state import AppState
from flask_chatstop.worker import Worker
from tests.fuzz.gunicorn_calls import Answer, call, environs
from tests.fuzz.reading import Reading, read
from tests.fuzz.roles import KEYS, Role, roles

#: Seconds that a task stays known which is over: by default they would fill the
#: memory for ten minutes, and rightly so.
RETENTION = 4.0
#: Connections after which another task takes the place of one that was stopped.
_RENEWED_AFTER = 20


class Broken(AssertionError):
    """Something does not hold; the message says what."""


@dataclass(slots=True)
class Counts:
    """What was seen.

    :param authorised_stops: running tasks that a request with the right to it stopped.
    """

    connections: int = 0
    refused_by_server: int = 0
    authorised_stops: int = 0
    statuses: Counter[int] = field(default_factory=Counter)


class Place:
    """A role, and the task that fills it now."""

    def __init__(self, role: Role, app: Flask, worker: Worker, generation: int) -> None:
        self.role = role
        self.generation = generation
        owner = Owner(role.app, "service-api", role.user)
        record = TaskRecord(role.task_id(generation), owner, worker.id)
        self.task = GenerationTask(record, app, worker, make_format=DifyEvents)
        self.task.on_stop(partial(self.task.end, EndReason.STOPPED))
        self.task.begin()
        #: When its task was over, in seconds, and another is due, in connections.
        self.over_at: float | None = None
        self.renew_at = 0
        if role.is_over:
            self.task.end(EndReason.FINISHED)
            self.over_at = time.monotonic()

    @property
    def is_lately_over(self) -> bool:
        """Whether the store is sure to know of its task's end."""
        return self.over_at is None or time.monotonic() < self.over_at + RETENTION / 2

    def note_stop(self, turn: int) -> None:
        """Remember to begin another task in its place."""
        self.over_at = time.monotonic()
        self.renew_at = turn + _RENEWED_AFTER

    def is_due(self, turn: int) -> bool:
        """Tell whether it is time for another task in its place."""
        if self.role.is_over:
            return not self.is_lately_over
        return self.over_at is not None and turn >= self.renew_at


class Target:
    """The app under attack, with tasks that are running and some that are over.

    :param backend: where its tasks are known, with a retention of :data:`RETENTION`.
    :param chatstop: another than the one that must withstand.
    """

    def __init__(self, backend: StopBackend, chatstop: ChatStop | None = None) -> None:
        self.counts = Counts()
        #: What was sent last, with the ids of tasks in it.
        self.sent = b""
        self.app = Flask("target")
        self.app.config["CHATSTOP_API_KEYS"] = KEYS
        self.app.config["CHATSTOP_BACKEND"] = backend
        self.app.register_blueprint(chatstop or ChatStop(), url_prefix="/v1")
        self.worker = AppState.of(self.app).worker
        self._places = [Place(role, self.app, self.worker, 1) for role in roles()]
        self._missing: Answer | None = None
        self._turn = 0

    def close(self) -> None:
        self.worker.close()

    def attack(self, data: bytes) -> None:
        """Send the bytes of a connection, the words in them replaced by task ids.

        :raises Broken: something does not hold.
        """
        self._renew()
        for place in self._places:
            data = data.replace(place.role.word, place.task.id.encode())
        self.sent = data
        self._turn += 1
        self.counts.connections += 1
        readings = self._readings(data)
        calls = environs(data)
        for reading in readings:
            try:
                environ, response = next(calls)
            except Exception as error:  # an earlier body, left unread, is malformed
                _hold(reading is not readings[0], f"the server refuses it: {error!r}")
                break
            self._send(reading, environ, response)
        else:
            self.counts.refused_by_server += not readings

    def _readings(self, data: bytes) -> list[Reading]:
        readings: list[Reading] = []
        requests = environs(data)
        while True:
            try:
                environ, _ = next(requests)
            except Exception:  # the last was read, or the server refuses the next
                return readings
            try:
                body = environ["wsgi.input"].read()
            except Exception:
                body = None
            readings.append(read(environ, body))

    def _send(self, reading: Reading, environ: dict[str, Any], response: Any) -> None:
        place = self._place_of(reading)
        method = environ["REQUEST_METHOD"]
        running = [each for each in self._places if each.over_at is None]
        answer = call(self.app, environ, response)
        self.counts.statuses[answer.status] += 1
        _hold(answer.status < 500, f"it is answered {answer.status}")
        self._check_stops(running, place, answer)
        if reading.statuses is None or (answer.status == 400 and not reading.has_host):
            return
        statuses = set(reading.statuses)
        if reading.owner is not None and place is None:
            statuses = statuses - {200} | {404}
            if self._names_a_former_task(reading):
                statuses.add(200)
        elif place is not None and not place.is_lately_over:
            statuses.add(404)
        _hold(answer.status in statuses, f"it is answered {answer.status}: {statuses}")
        self._check_answer(answer, method)

    def _check_stops(
        self, running: list[Place], place: Place | None, answer: Answer
    ) -> None:
        ids = [each.task.id for each in running]
        stopping = self.worker.backend.stops(self.worker.id, ids)
        for each in running:
            is_stopped = each.task.stopped or each.task.id in stopping
            ought_to_be = each is place and answer.status == 200
            _hold(is_stopped == ought_to_be, f"{each.task!r} after {answer.status}")
            if is_stopped:
                _hold(each.task.stopped, "only the store knows of the stop")
                each.note_stop(self._turn)
                self.counts.authorised_stops += 1
            else:
                _hold(each.task.end_reason is None, f"{each.task!r} has ended")

    def _check_answer(self, answer: Answer, method: str) -> None:
        if answer.status == 200:
            return
        headers = dict(answer.headers)
        _hold(headers.get("Content-Type") == "application/json", f"{headers} in error")
        if method == "HEAD":
            return
        body = json.loads(answer.body)
        _hold(set(body) == {"code", "message", "status"}, f"the error is {body}")
        _hold(body["status"] == answer.status, f"the error is {body}")
        if answer.status == 404:
            self._missing = self._missing or answer
            _hold(answer == self._missing, "two missing tasks are told apart")

    def _place_of(self, reading: Reading) -> Place | None:
        for place in self._places:
            owner = (place.role.app, place.role.user)
            if place.task.id == reading.task_id and owner == reading.owner:
                return place
        return None

    def _names_a_former_task(self, reading: Reading) -> bool:
        """Tell whether it is of its own user's, and may be known for a while."""
        return any(
            reading.owner == (place.role.app, place.role.user)
            and 0 < place.role.generation_of(reading.task_id) < place.generation
            for place in self._places
        )

    def _renew(self) -> None:
        for index, place in enumerate(self._places):
            if place.is_due(self._turn):
                generation = place.generation + 1
                self._places[index] = Place(
                    place.role, self.app, self.worker, generation
                )


def _hold(is_true: bool, message: str) -> None:
    if not is_true:
        raise Broken(message)

"""Apps that share a store, and generations in them that do nothing but run."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from flask import Flask, request

from flask_chatstop import (
    ChatStop,
    EndReason,
    GenerationEnd,
    GenerationTask,
    task_ended,
)
from flask_chatstop.state import AppState
from flask_chatstop.worker import Worker
from tests.support.line import Line

HEADERS = {"Authorization": "Bearer key"}
#: Seconds that no test takes: nothing is swept unless a test wants it to be.
NEVER = 60.0


@dataclass(eq=False)
class Generation:
    """A running generation, and what the world was promised about it.

    :param ends_when_stopped: at once, in the thread of the stop.
    """

    task: GenerationTask
    worker: "WorkerUnderTest"
    ends_when_stopped: bool
    ends: list[GenerationEnd] = field(default_factory=list)
    signals: list[EndReason] = field(default_factory=list)
    #: Its owner has asked for its stop, and that was answered with success.
    was_asked_to_stop: bool = False
    was_promised_to_stop: bool = False
    #: The store may not have heard of it yet, or has lost it since.
    may_be_unknown: bool = False
    #: The store refuses it.
    is_refused: bool = False
    #: The store refuses it, or has no room for it: it may never learn of the end.
    end_may_be_unknown: bool = False

    def __post_init__(self) -> None:
        self.task.on_end(self.ends.append)
        if self.ends_when_stopped:
            self.task.on_stop(self._end)

    def __repr__(self) -> str:
        return f"{self.task!r} of {self.worker!r}"

    @property
    def user(self) -> str:
        return self.task.record.owner.user

    @property
    def runs(self) -> bool:
        return self.task.end_reason is None

    @property
    def must_stop(self) -> bool:
        """Whether its stop was promised and has not come yet."""
        return self.was_promised_to_stop and self.runs_on

    @property
    def runs_on(self) -> bool:
        """Whether it neither has ended nor knows that it ought to."""
        return self.runs and not self.task.stopped

    def _end(self) -> None:
        self.task.end(EndReason.STOPPED)


class WorkerUnderTest:
    """An app with a worker of its own.

    :param name: for messages.
    """

    def __init__(self, name: str, line: Line) -> None:
        self.name = name
        self.line = line
        self.generations: list[Generation] = []
        self.is_dead = False
        #: It may not have found its store again since an outage.
        self.is_doubtful = False
        #: It may take its store for lost, and not tell it of what begins.
        self.is_shaken = False
        self.app = Flask(name)
        self.app.config["CHATSTOP_API_KEYS"] = {"key": "app"}
        self.app.config["CHATSTOP_BACKEND"] = line
        self.app.config["CHATSTOP_SWEEP_INTERVAL"] = NEVER
        self._chatstop = ChatStop()
        self.app.register_blueprint(self._chatstop, url_prefix="/v1")
        self.app.add_url_rule(
            "/begin",
            view_func=self._chatstop.login_required(self._begin),
            methods=["POST"],
        )
        task_ended.connect(self._note_end, self.app)

    def __repr__(self) -> str:
        return self.name

    @property
    def worker(self) -> Worker:
        return AppState.of(self.app).worker

    def begin(
        self, user: str, ends_when_stopped: bool, task_id: str | None = None
    ) -> Generation:
        """Begin a generation by a request."""
        body = {
            "user": user,
            "ends_when_stopped": ends_when_stopped,
            "task_id": task_id,
        }
        response = self.app.test_client().post("/begin", json=body, headers=HEADERS)
        assert response.status_code == 200, response.text
        return self.generations[-1]

    def stop(self, task_id: str, user: str) -> tuple[int, str | None]:
        """Give the status and the outcome of a stop through this app."""
        response = self.app.test_client().post(
            f"/v1/chat-messages/{task_id}/stop", json={"user": user}, headers=HEADERS
        )
        return response.status_code, response.headers.get("Chatstop-Outcome")

    @property
    def has_its_store(self) -> bool:
        """Whether the worker has found its store again after an outage."""
        return self.worker._reconciler.store_is_up

    def sweep(self) -> None:
        """Have the worker look once for what it has missed."""
        self.worker._running.look_again()

    def close(self) -> None:
        self.line.is_cut = self.line.is_deaf = False
        self.line.errors.clear()
        self.worker.close()
        task_ended.disconnect(self._note_end, self.app)

    def _begin(self) -> dict[str, str]:
        body = request.get_json()
        task = self._chatstop.start(user=body["user"], task_id=body["task_id"])
        self.generations.append(Generation(task, self, body["ends_when_stopped"]))
        return {"task_id": task.id}

    def _note_end(
        self, sender: Flask, task: GenerationTask, reason: EndReason, **_: object
    ) -> None:
        for generation in self.generations:
            if generation.task is task:
                generation.signals.append(reason)


def at_once(*actions: Callable[[], object]) -> None:
    """Do some things at the same moment, each in a thread of its own."""
    barrier = threading.Barrier(len(actions))

    def act(action: Callable[[], object]) -> None:
        barrier.wait()
        action()

    with ThreadPoolExecutor(len(actions)) as threads:
        for done in [threads.submit(act, action) for action in actions]:
            done.result()

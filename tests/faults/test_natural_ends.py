"""Stops that come in the instant of the natural end, ten thousand times."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from flask_chatstop import EndReason, GenerationEnd, GenerationTask, StopOutcome
from flask_chatstop.backends import backend_from_url
from flask_chatstop.state import AppState
from flask_chatstop.worker import Worker
from tests.faults.stores import Store
from tests.support.chat import AUTH, Chat

TIMES = 10_000
#: What each end may have been answered: a stop that came first, one that came later.
ANSWERS = {
    EndReason.STOPPED: (StopOutcome.STOPPING, StopOutcome.STOPPED),
    EndReason.FINISHED: (StopOutcome.STOPPING, StopOutcome.ENDED),
}
#: What a stop is answered when all is over.
TRUTH = {
    EndReason.STOPPED: StopOutcome.STOPPED,
    EndReason.FINISHED: StopOutcome.ENDED,
}


class Ends:
    """The ends that were reported of one task."""

    def __init__(self, task: GenerationTask) -> None:
        self.reasons: list[EndReason] = []
        task.on_end(self.add)

    def add(self, end: GenerationEnd) -> None:
        self.reasons.append(end.reason)


def begin(chat: Chat) -> GenerationTask:
    with chat.app.test_request_context(headers=AUTH):
        start: Callable[[], GenerationTask] = chat.chatstop.login_required(
            lambda: chat.chatstop.start(user="alice")
        )
        return start()


@pytest.mark.usefixtures("restless")
def test_a_stop_and_a_natural_end_in_the_same_instant_agree(
    redis_store: Store,
) -> None:
    chat = Chat(config={"CHATSTOP_BACKEND": redis_store.url})
    here = AppState.of(chat.app).worker
    elsewhere = Worker(backend_from_url(redis_store.url))
    ended = {}
    seen: Counter[tuple[StopOutcome, EndReason]] = Counter()
    with ThreadPoolExecutor(1) as pool:
        for number in range(TIMES):
            task = begin(chat)
            ends, owner = Ends(task), task.record.owner
            stream = task.stream(iter("abc"))
            worker = elsewhere if number % 2 else here
            stopping = pool.submit(worker.stop, task.id, owner)
            assert not set(stream) - set("abc")
            [reason] = ends.reasons
            assert task.end_reason is reason
            outcome = stopping.result(20)
            stream.close()  # as a server does that has sent it all
            assert not task.end("failed")
            assert task.end_reason is reason
            assert outcome in ANSWERS[reason]
            assert task.stopped == (reason is EndReason.STOPPED)
            assert ends.reasons == [reason]
            seen[outcome, reason] += 1
            ended[task.id] = reason
    here.close()
    for task_id, reason in ended.items():
        assert elsewhere.stop(task_id, owner) is TRUTH[reason]
    assert {reason for _, reason in seen} == set(TRUTH), seen
    elsewhere.close()

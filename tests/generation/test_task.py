"""The handle of a generation: stops, callbacks, its one end."""

import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, Response, abort, current_app, request, stream_with_context

from flask_chatstop import (
    EndReason,
    GenerationEnd,
    GenerationTask,
    InvalidParam,
    MemoryBackend,
    TaskExists,
    TaskRecord,
    TaskStopped,
    hang_up,
    task_ended,
    task_started,
)
from flask_chatstop.testing import wait_until
from tests.support.apps import new_task
from tests.support.chat import Chat, Source


@pytest.fixture
def chat() -> Chat:
    return Chat()


def test_a_task_can_be_stopped_from_the_moment_it_is_started() -> None:
    chat = Chat()
    task = new_task(chat)
    assert not task.stopped
    task.raise_if_stopped()
    assert chat.stop(task.id).headers["Chatstop-Outcome"] == "stopping"
    assert task.stopped
    with pytest.raises(TaskStopped, match=task.id):
        task.raise_if_stopped()


def test_a_stop_during_slow_preparation_is_answered_as_a_stopped_stream() -> None:
    chat = Chat()
    ends: list[GenerationEnd] = []

    @chat.app.post("/prepare")
    @chat.chatstop.login_required
    def prepare() -> Any:
        task = chat.chatstop.start(user="alice", task_id="slow")
        task.on_end(ends.append)
        chat.stop("slow")
        task.raise_if_stopped()
        raise AssertionError("it went on")

    response = chat.client.post(
        "/prepare", headers={"Authorization": "Bearer demo-key"}
    )
    assert response.status_code == 200
    assert response.mimetype == "text/event-stream"
    assert '"end_reason":"stopped"' in response.text
    assert [end.reason for end in ends] == ["stopped"]


def test_callbacks_run_when_the_task_is_stopped_and_at_once_if_it_was(
    chat: Chat,
) -> None:
    task = new_task(chat)
    called, late = threading.Event(), threading.Event()
    task.on_stop(called.set)
    assert not called.is_set()
    task.stop()
    assert called.wait(5)
    task.on_stop(late.set)
    assert late.is_set()


def test_a_failing_callback_is_logged_and_stops_no_other(
    chat: Chat, caplog: pytest.LogCaptureFixture
) -> None:
    task = new_task(chat)
    called = threading.Event()

    @task.on_stop
    def failing() -> None:
        raise LookupError("in the callback")

    task.on_stop(called.set)
    task.stop()
    assert called.wait(5)
    wait_until(lambda: "in the callback" in caplog.text)


def test_a_callback_that_blocks_delays_no_other_stop(chat: Chat) -> None:
    blocking, quick = new_task(chat), new_task(chat)
    release, called = threading.Event(), threading.Event()
    blocking.on_stop(release.wait)
    quick.on_stop(called.set)
    assert chat.stop(blocking.id).status_code == 200
    assert chat.stop(quick.id).status_code == 200
    assert called.wait(5)
    release.set()


def test_a_callback_that_blocks_keeps_no_end_from_being_reported(chat: Chat) -> None:
    task = new_task(chat)
    task.on_stop(threading.Event().wait)
    ended = threading.Event()
    task.on_end(lambda end: ended.set())
    stream = task.stream(Source("One ")())
    next(stream)  # and then its client stalls
    task.stop()
    assert ended.wait(10)
    assert task.end_reason is EndReason.STOPPED


def test_what_a_task_lets_go_of_as_it_ends_may_end_it_once_more(chat: Chat) -> None:
    task = new_task(chat)
    ends: list[EndReason] = []
    task.on_end(lambda end: ends.append(end.reason))

    class Conversation:
        def forget(self) -> None: ...

        def __del__(self) -> None:
            task.end("failed")

    task.on_stop(Conversation().forget)
    ending = threading.Thread(target=task.end, args=["finished"], daemon=True)
    ending.start()
    ending.join(5)
    assert not ending.is_alive()
    assert ends == [EndReason.FINISHED]


@pytest.mark.parametrize("reason", list(EndReason))
def test_the_first_end_counts_and_is_reported_once(
    chat: Chat, reason: EndReason
) -> None:
    task = new_task(chat)
    ends: list[GenerationEnd] = []
    task.on_end(ends.append)
    assert task.end(reason) is True
    assert task.end(EndReason.FAILED) is False
    assert [end.reason for end in ends] == [reason]
    assert task.end_reason is reason
    with pytest.raises(RuntimeError, match="has ended"):
        task.on_end(ends.append)


@pytest.mark.usefixtures("restless")
def test_an_end_is_reported_once_however_many_threads_report_it(chat: Chat) -> None:
    tasks = [new_task(chat) for _ in range(300)]
    ends: list[str] = []
    for task in tasks:
        task.on_end(lambda end: ends.append(end.task_id))
    barrier = threading.Barrier(4)

    def end_all() -> None:
        for number, task in enumerate(tasks):
            barrier.wait()
            if number % 2:
                task.stop()
            task.end(EndReason.FINISHED)

    def receiver(sender: Flask, task: GenerationTask, **_: object) -> None:
        signals.append(task.id)

    signals: list[str] = []
    threads = [threading.Thread(target=end_all) for _ in range(4)]
    with task_ended.connected_to(receiver, chat.app):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(ends) == sorted(signals) == sorted(task.id for task in tasks)


def test_every_end_of_a_stopped_task_is_a_stop(chat: Chat) -> None:
    task = new_task(chat)
    ends: list[GenerationEnd] = []
    task.on_end(ends.append)
    task.stop()
    task.end("failed", ConnectionError("we hung up"))
    assert [(end.reason, end.error) for end in ends] == [("stopped", None)]


def test_an_unknown_reason_is_refused(chat: Chat) -> None:
    with pytest.raises(ValueError, match="cancelled"):
        new_task(chat).end("cancelled")


def test_on_end_runs_in_the_app_context_and_its_error_is_logged(
    chat: Chat, caplog: pytest.LogCaptureFixture
) -> None:
    task = new_task(chat)
    names: list[str] = []

    @task.on_end
    def failing(end: GenerationEnd) -> None:
        names.append(current_app.name)
        raise LookupError("could not save")

    task.end("finished")
    assert names == ["chat"]
    assert "could not save" in caplog.text


def test_an_exit_in_on_end_keeps_nobody_from_knowing(chat: Chat) -> None:
    task = new_task(chat)
    heard: list[str] = []

    @task.on_end
    def leave(end: GenerationEnd) -> None:
        raise SystemExit(3)

    task.on_end(lambda end: heard.append("on_end"))
    with (
        task_ended.connected_to(lambda *_, **__: heard.append("signal"), chat.app),
        pytest.raises(SystemExit),
    ):
        task.end("finished")
    assert heard == ["on_end", "signal"]
    assert chat.stop(task.id).headers["Chatstop-Outcome"] in ("stopping", "ended")


def test_the_signals_tell_of_the_start_and_of_the_one_end(chat: Chat) -> None:
    heard: list[tuple[str, Any]] = []

    def on_started(sender: Flask, task: GenerationTask) -> None:
        heard.append(("started", (sender, task.id)))

    def on_ended(
        sender: Flask,
        task: GenerationTask,
        reason: EndReason,
        duration: float,
        calls_cut: int,
    ) -> None:
        assert duration >= 0
        assert calls_cut == 0
        heard.append((reason, (sender, task.id)))

    with (
        # Of another test's app, a task may be ending that nobody holds.
        task_started.connected_to(on_started, chat.app),
        task_ended.connected_to(on_ended, chat.app),
    ):
        task = new_task(chat)
        task.end("finished")
        task.end("failed")
    assert heard == [
        ("started", (chat.app, task.id)),
        ("finished", (chat.app, task.id)),
    ]


def test_a_failing_receiver_of_a_signal_is_logged(
    chat: Chat, caplog: pytest.LogCaptureFixture
) -> None:
    def receiver(sender: Flask, **values: object) -> None:
        raise LookupError("in the receiver")

    with task_started.connected_to(receiver):
        assert new_task(chat).end("finished") is True
    assert "in the receiver" in caplog.text


def start(chat: Chat, **options: Any) -> GenerationTask:
    with chat.app.test_request_context(headers={"Authorization": "Bearer demo-key"}):
        task: GenerationTask = chat.chatstop.login_required(
            lambda: chat.chatstop.start(**options)
        )()
        return task


def test_an_id_that_is_running_is_an_error(chat: Chat) -> None:
    first = start(chat, user="alice", task_id="one")
    with pytest.raises(TaskExists, match="one"):
        start(chat, user="bob", task_id="one")
    gc.collect()
    assert chat.stop("one").headers["Chatstop-Outcome"] == "stopping"
    assert first.stopped


def test_an_id_that_another_worker_runs_is_an_error() -> None:
    backend = MemoryBackend()
    one, two = (Chat(config={"CHATSTOP_BACKEND": backend}) for _ in range(2))
    first = start(one, user="alice", task_id="one")
    with pytest.raises(TaskExists, match="one"):
        start(two, user="alice", task_id="one")
    assert two.stop("one").headers["Chatstop-Outcome"] == "stopping"
    wait_until(lambda: first.stopped)


@pytest.mark.parametrize(
    "user", [None, "", "x" * 256, "a\0b", "\ud800", 7, ["a"], True]
)
def test_what_cannot_be_a_user_is_refused(chat: Chat, user: Any) -> None:
    with pytest.raises(InvalidParam, match="user must be"):
        start(chat, user=user)


@pytest.mark.parametrize(
    "task_id", ["", "x" * 256, "a/b", "a\0b", "\udfff", 7, ".", "..", "a%2Fb", "%2f"]
)
def test_what_cannot_be_a_task_id_is_refused(chat: Chat, task_id: Any) -> None:
    with pytest.raises(InvalidParam, match="task_id must be a string"):
        start(chat, user="alice", task_id=task_id)


def test_bad_ids_in_a_view_are_answered_as_json(chat: Chat) -> None:
    @chat.app.post("/start/<task_id>")
    @chat.chatstop.login_required
    def view(task_id: str) -> str:
        chat.tasks.append(
            chat.chatstop.start(user=request.args["user"], task_id=task_id)
        )
        return ""

    def post(path: str) -> tuple[int, str]:
        headers = {"Authorization": "Bearer demo-key"}
        response = chat.client.post(path, headers=headers)
        return response.status_code, response.get_json()[
            "code"
        ] if response.is_json else ""

    assert post("/start/one?user=alice") == (200, "")
    assert post("/start/one?user=alice") == (409, "task_exists")
    assert post("/start/two?user=") == (400, "invalid_param")


def test_a_view_that_fails_before_it_streams_ends_its_task(chat: Chat) -> None:
    ends: list[EndReason] = []

    @chat.app.post("/fail")
    @chat.chatstop.login_required
    def fail() -> str:
        task = chat.chatstop.start(user="alice", task_id="failing")
        task.on_end(lambda end: ends.append(end.reason))
        raise LookupError("the model is not there")

    @chat.app.errorhandler(LookupError)
    def handler(error: LookupError) -> tuple[str, int]:
        return "sorry", 502

    headers = {"Authorization": "Bearer demo-key"}
    assert chat.client.post("/fail", headers=headers).status_code == 502
    gc.collect()
    wait_until(lambda: ends == ["failed"])
    wait_until(lambda: chat.stop("failing").headers["Chatstop-Outcome"] == "ended")


def test_a_view_whose_error_is_kept_for_a_debugger_ends_its_task(chat: Chat) -> None:
    tasks: list[GenerationTask] = []

    @chat.app.post("/fail")
    @chat.chatstop.login_required
    def fail() -> Any:
        tasks.append(chat.chatstop.start(user="alice"))
        raise RuntimeError("no model")

    chat.app.testing = True
    with pytest.raises(RuntimeError, match="no model"):
        chat.client.post("/fail", headers={"Authorization": "Bearer demo-key"})
    assert tasks[0].end_reason is EndReason.FAILED


def test_a_client_that_leaves_a_stream_with_context_has_left(chat: Chat) -> None:
    tasks: list[GenerationTask] = []

    @chat.app.post("/stream")
    @chat.chatstop.login_required
    def stream() -> Any:
        tasks.append(chat.chatstop.start(user="alice"))
        pieces = tasks[0].stream(Source("One ")())

        def answer() -> Iterator[str]:
            try:
                yield from pieces
            finally:
                pieces.close()

        return Response(stream_with_context(answer()))

    response = chat.client.post("/stream", headers={"Authorization": "Bearer demo-key"})
    assert next(iter(response.response)) == b"One "
    response.close()
    assert tasks[0].end_reason is EndReason.DISCONNECTED


class BusyBackend(MemoryBackend):
    """A store that takes long to hear of an end."""

    def __init__(self) -> None:
        super().__init__()
        self.is_busy, self.go_on = threading.Event(), threading.Event()

    def end(self, record: TaskRecord, reason: EndReason) -> bool:
        self.is_busy.set()
        assert self.go_on.wait(10)
        return super().end(record, reason)


@pytest.mark.parametrize("is_cycle", [True, False])
def test_a_task_that_nobody_holds_can_be_stopped_until_it_is_ended(
    is_cycle: bool,
) -> None:
    backend = BusyBackend()
    chat = Chat(config={"CHATSTOP_BACKEND": backend})
    ends: list[EndReason] = []
    task = new_task(chat)
    task.on_end(lambda end: ends.append(end.reason))
    task_id = task.id
    if is_cycle:
        task.itself = task  # type: ignore[attr-defined]
    new_task(chat).end("finished")
    assert backend.is_busy.wait(5)  # and so nobody ends what is abandoned now
    del task
    gc.collect()
    assert ends == []
    assert chat.stop(task_id).headers["Chatstop-Outcome"] == "stopping"
    backend.go_on.set()
    wait_until(lambda: bool(ends))
    assert ends == [EndReason.STOPPED]
    wait_until(lambda: chat.stop(task_id).headers["Chatstop-Outcome"] == "stopped")


def test_a_refusal_after_the_start_ends_the_task_at_once(chat: Chat) -> None:
    @chat.app.post("/refuse")
    @chat.chatstop.login_required
    def refuse() -> str:
        chat.tasks.append(chat.chatstop.start(user="alice"))
        abort(429)

    headers = {"Authorization": "Bearer demo-key"}
    assert chat.client.post("/refuse", headers=headers).status_code == 429
    assert chat.tasks[0].end_reason is EndReason.FAILED


def test_a_loop_of_ones_own_looks_at_stopped_and_reports_its_end(chat: Chat) -> None:
    task = new_task(chat)

    def loop() -> Iterator[int]:
        number = 0
        while not task.stopped:
            yield number
            number += 1
        task.end("stopped")

    chunks = loop()
    assert next(chunks) == 0
    chat.stop(task.id)
    assert list(chunks) == []
    wait_until(lambda: chat.stop(task.id).headers["Chatstop-Outcome"] == "stopped")


def test_its_repr_tells_its_state(chat: Chat) -> None:
    task = new_task(chat)
    assert repr(task) == f"<GenerationTask {task.id!r} running>"
    task.stop()
    assert repr(task) == f"<GenerationTask {task.id!r} stopping>"
    task.end("stopped")
    assert repr(task) == f"<GenerationTask {task.id!r} stopped>"
    assert hang_up(task) is False

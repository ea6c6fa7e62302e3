"""The reconciler and the listener of a worker, when two things happen at once."""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue

import pytest

from flask_chatstop import (
    BackendError,
    EndReason,
    StopOutcome,
    TaskExists,
    TaskRecord,
)
from flask_chatstop.testing import ALICE, wait_until
from flask_chatstop.worker import Worker
from tests.support.faulty_worker import FaultyBackend, Task, begin
from tests.support.threads import threads_begun


@contextmanager
def no_more_threads() -> Iterator[None]:
    threading.stack_size(2**46)  # more than there is
    try:
        yield
    finally:
        threading.stack_size(0)


def test_a_start_without_threads_fails_and_leaves_the_next_one_its_reconciler(
    worker: Worker, elsewhere: Worker
) -> None:
    refused = Task(worker)
    with no_more_threads(), pytest.raises(RuntimeError):
        worker.start(refused)
    task = begin(worker)
    assert elsewhere.stop(task.record.task_id, ALICE) is StopOutcome.STOPPING
    assert task.stopped.wait(5)
    wait_until(
        lambda: elsewhere.stop(refused.record.task_id, ALICE) is StopOutcome.ENDED
    )


def test_a_task_that_nobody_holds_is_ended_though_no_thread_can_begin(
    worker: Worker,
) -> None:
    running, task = begin(worker), begin(worker)
    with no_more_threads():
        worker.abandon(task)
        wait_until(lambda: task.reason is EndReason.FAILED)
    assert running.reason is None


def test_a_task_is_announced_before_the_threads_begin() -> None:
    class Asking(FaultyBackend):
        begun_before: int | None = None

        def announce(self, record: TaskRecord) -> bool:
            self.begun_before = len(begun)
            return super().announce(record)

    asking = Asking()
    worker = Worker(asking)
    with threads_begun() as begun:
        task = begin(worker)
    assert (asking.begun_before, len(begun)) == (0, 2)
    task.end(EndReason.FINISHED)
    worker.close()


class Away(FaultyBackend):
    """A store that hangs, and whose listener fails."""

    def __init__(self) -> None:
        super().__init__()
        self.tries = 0
        self.back = threading.Event()

    def renew(self, records: Sequence[TaskRecord]) -> set[str]:
        assert self.back.wait(30)
        return super().renew(records)

    def listen(
        self,
        worker_id: str,
        running: Callable[[], Collection[str]],
        heard: Callable[[Collection[str]], None],
        closing: threading.Event,
    ) -> None:
        self.tries += 1
        self._call()
        super().listen(worker_id, running, heard, closing)


@pytest.mark.slow
def test_a_listener_does_not_sleep_on_when_the_store_is_found() -> None:
    away = Away()
    worker, elsewhere = Worker(away, sweep_interval=60), Worker(away)
    away.is_cut = True
    task = begin(worker)
    # After its fifth try the listener waits for 1.6 seconds or more.
    wait_until(lambda: away.tries == 5)
    away.is_cut = False
    away.back.set()
    wait_until(
        lambda: elsewhere.stop(task.record.task_id, ALICE) is StopOutcome.STOPPING
    )
    assert task.stopped.wait(1)
    task.end(EndReason.FINISHED)
    worker.close()


class Ringing(FaultyBackend):
    """A store that the listener may find before the reconciler tries it again."""

    def __init__(self) -> None:
        super().__init__()
        self.is_mute, self.back = True, threading.Event()
        self.tries = 0

    def renew(self, records: Sequence[TaskRecord]) -> set[str]:
        self.tries += 1
        return super().renew(records)

    def listen(
        self,
        worker_id: str,
        running: Callable[[], Collection[str]],
        heard: Callable[[Collection[str]], None],
        closing: threading.Event,
    ) -> None:
        if self.is_mute:
            self.is_mute = False
            assert self.back.wait(30)
            raise BackendError("the server was restarted")
        super().listen(worker_id, running, heard, closing)


@pytest.mark.slow
def test_a_reconciler_does_not_sleep_on_when_the_listener_is_back() -> None:
    store = Ringing()
    worker, elsewhere = Worker(store, sweep_interval=60), Worker(store)
    store.is_cut = True
    task = begin(worker)
    # After its fifth try the reconciler waits for 2.5 seconds or more.
    wait_until(lambda: store.tries == 5)
    store.is_cut = False
    store.back.set()
    found = threading.Event()

    def find() -> None:
        wait_until(
            lambda: elsewhere.stop(task.record.task_id, ALICE) is StopOutcome.STOPPING
        )
        found.set()

    threading.Thread(target=find).start()
    assert found.wait(2)
    task.end(EndReason.FINISHED)
    worker.close()


class Forgetful(FaultyBackend):
    """A store that comes back empty, as a server does that keeps nothing on disk."""

    def __init__(self) -> None:
        super().__init__()
        self.listening, self.restarted = threading.Event(), threading.Event()

    def listen(
        self,
        worker_id: str,
        running: Callable[[], Collection[str]],
        heard: Callable[[Collection[str]], None],
        closing: threading.Event,
    ) -> None:
        self._call()
        heard(self.stops(worker_id, running()))
        self.listening.set()
        while not closing.wait(0.01):
            if self.restarted.is_set():
                self.restarted.clear()
                raise BackendError("the server was restarted")


def test_a_store_that_comes_back_empty_is_told_of_what_runs_after_any_outage() -> None:
    store = Forgetful()
    worker, elsewhere = Worker(store, sweep_interval=60), Worker(store)
    begin(worker).end(EndReason.FINISHED)
    assert store.listening.wait(10)
    # An outage that the listener does not notice.
    store.is_cut = True
    task = begin(worker)
    store.is_cut = False
    wait_until(lambda: bool(store.tasks(task_id=task.record.task_id)))
    # And a restart that nothing else does.
    store.after_fork()
    store.restarted.set()
    wait_until(
        lambda: elsewhere.stop(task.record.task_id, ALICE) is StopOutcome.STOPPING
    )
    worker.close()


class Gate(FaultyBackend):
    """A store whose renewals wait until they may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.renewing, self.go_on = threading.Event(), threading.Event()

    def renew(self, records: Sequence[TaskRecord]) -> set[str]:
        self.renewing.set()
        assert self.go_on.wait(30)
        return super().renew(records)


def test_a_task_that_begins_while_the_store_is_being_found_is_announced_too() -> None:
    gate = Gate()
    worker, elsewhere = Worker(gate, sweep_interval=0.2), Worker(gate)
    gate.is_deaf = True  # or its listener, when it is back, would renew everything
    gate.is_cut = True
    first = begin(worker)
    gate.is_cut = False
    assert gate.renewing.wait(10)  # of what ran then
    task = begin(worker)
    gate.go_on.set()
    wait_until(
        lambda: elsewhere.stop(task.record.task_id, ALICE) is StopOutcome.STOPPING
    )
    assert not first.stopped.is_set()
    worker.close()


def test_the_id_of_an_end_is_taken_until_the_store_is_asked_again() -> None:
    class Asked(FaultyBackend):
        outcomes: SimpleQueue[str] = SimpleQueue()
        ended: TaskRecord | None = None

        def end(self, record: TaskRecord, reason: EndReason) -> bool:
            is_first = super().end(record, reason)
            if self.ended is not None:  # its end is known here, and not asked for yet
                try:
                    worker.start(Task(worker, self.ended.task_id))
                    self.outcomes.put("free")
                except TaskExists:
                    self.outcomes.put("taken")
            self.ended = record
            return is_first

    backend = Asked()
    worker = Worker(backend, sweep_interval=0.2)
    backend.is_deaf = True
    tasks = [begin(worker), begin(worker)]
    backend.is_cut = True
    for task in tasks:
        task.end(EndReason.FINISHED)
    begin(worker)  # which notices that the store is away
    backend.is_cut = False
    assert backend.outcomes.get(timeout=10) == "taken"
    worker.close()


def test_a_record_that_the_backend_refuses_does_not_harm_the_others() -> None:
    class Picky(FaultyBackend):
        refused: Task | None = None

        def renew(self, records: Sequence[TaskRecord]) -> set[str]:
            self._call()
            if self.refused is not None and self.refused.record in records:
                raise ValueError("no such name")
            return super().renew(records)

    picky = Picky()
    worker, elsewhere = Worker(picky, sweep_interval=0.2), Worker(picky)
    picky.is_cut = True
    picky.refused, task = begin(worker), begin(worker)
    picky.is_cut = False
    wait_until(
        lambda: elsewhere.stop(task.record.task_id, ALICE) is StopOutcome.STOPPING
    )
    assert task.stopped.wait(5)
    worker.close()


def test_slow_ends_do_not_keep_a_stop_from_being_swept() -> None:
    class Slow(FaultyBackend):
        task: Task
        unheard = 0

        def end(self, record: TaskRecord, reason: EndReason) -> bool:
            self.stop(self.task.record.task_id, ALICE)
            self.unheard += not self.task.stopped.wait(1)
            return super().end(record, reason)

    slow = Slow()
    slow.is_deaf = True
    worker = Worker(slow, sweep_interval=0.2)
    slow.task, *others = (begin(worker) for _ in range(4))
    for other in others:
        other.end(EndReason.FINISHED)
    assert slow.task.stopped.wait(10)
    assert slow.unheard == 1
    worker.close()


def test_an_exit_waits_for_an_end_that_is_being_saved(
    backend: FaultyBackend, worker: Worker
) -> None:
    class Saving(Task):
        saved = threading.Event()

        def end(self, reason: EndReason, error: BaseException | None = None) -> bool:
            if self.reason is None:
                self.reason = reason
                assert self.saved.wait(30)
                self.worker.ended(self, reason)
            return True

    task = Saving(worker)
    worker.start(task)
    saving = threading.Thread(target=task.end, args=(EndReason.FINISHED,))
    saving.start()
    wait_until(lambda: task.reason is not None)
    exiting = threading.Thread(target=worker.close)
    exiting.start()
    exiting.join(0.5)
    assert exiting.is_alive()
    task.saved.set()
    saving.join()
    exiting.join()
    assert backend.stop(task.record.task_id, ALICE) is StopOutcome.ENDED

"""The worker's threads: rings, sweeps, renewals, outages, the end of a process."""

import gc
import threading
import time
import weakref
from collections.abc import Collection, Sequence
from functools import partial

import pytest

from flask_chatstop import BackendError, EndReason, Owner, StopOutcome, TaskRecord
from flask_chatstop.testing import ALICE, new_record, wait_until
from flask_chatstop.worker import Worker
from tests.support.faulty_worker import FaultyBackend, Task, begin
from tests.support.scripts import run
from tests.support.threads import are_over, threads_begun


def test_a_stop_rings_the_worker_that_runs_the_task(
    worker: Worker, elsewhere: Worker
) -> None:
    task = begin(worker)
    assert elsewhere.stop(task.record.task_id, ALICE) is StopOutcome.STOPPING
    assert task.stopped.wait(5)


def test_a_task_of_this_worker_is_stopped_before_the_store_is_asked() -> None:
    class Slow(FaultyBackend):
        def stop(self, task_id: str, owner: Owner) -> StopOutcome:
            assert task.stopped.wait(5), "it waits for the store"
            return super().stop(task_id, owner)

    worker = Worker(Slow())
    task = begin(worker)
    assert worker.stop(task.record.task_id, ALICE) is StopOutcome.STOPPING
    task.end(EndReason.STOPPED)
    worker.close()


def test_a_task_is_renewed_with_time_to_try_again(
    worker: Worker, backend: FaultyBackend
) -> None:
    task = begin(worker)
    assert worker._reconciler._renew_at <= time.monotonic() + backend.lease / 2
    renewed = worker._reconciler._renew_at
    wait_until(lambda: worker._reconciler._renew_at > renewed)
    assert worker._reconciler._renew_at <= time.monotonic() + backend.lease / 2
    task.end(EndReason.FINISHED)


def test_a_lost_ring_is_made_good_by_the_sweep(
    backend: FaultyBackend, worker: Worker, elsewhere: Worker
) -> None:
    backend.is_deaf = True
    task = begin(worker)
    elsewhere.stop(task.record.task_id, ALICE)
    assert task.stopped.wait(5)


def test_a_task_longer_than_its_lease_can_still_be_stopped(
    backend: FaultyBackend, worker: Worker, elsewhere: Worker
) -> None:
    task, unkept = begin(worker), new_record()
    backend.announce(unkept)
    wait_until(lambda: elsewhere.stop(unkept.task_id, ALICE) is StopOutcome.MISSING)
    assert not task.stopped.is_set()
    # On a busy machine its lease may be over until its worker renews it again.
    wait_until(
        lambda: elsewhere.stop(task.record.task_id, ALICE) is StopOutcome.STOPPING
    )
    assert task.stopped.wait(5)


def test_a_task_that_began_in_an_outage_is_announced_when_it_is_over(
    backend: FaultyBackend,
    worker: Worker,
    elsewhere: Worker,
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend.is_cut = True
    task = begin(worker)
    assert f"Task {task.record.task_id!r} runs" in caplog.text
    with pytest.raises(BackendError):
        elsewhere.stop(task.record.task_id, ALICE)
    backend.is_cut = False
    wait_until(
        lambda: elsewhere.stop(task.record.task_id, ALICE) is StopOutcome.STOPPING
    )
    assert task.stopped.wait(5)


def test_a_store_that_came_back_empty_knows_every_task_again(
    backend: FaultyBackend, worker: Worker, elsewhere: Worker
) -> None:
    task = begin(worker)
    backend.is_cut = True
    begin(worker)
    backend._running.clear()
    backend.is_cut = False
    wait_until(
        lambda: elsewhere.stop(task.record.task_id, ALICE) is StopOutcome.STOPPING
    )
    assert task.stopped.wait(5)


def test_the_end_of_a_task_is_told_when_the_outage_is_over(
    backend: FaultyBackend, worker: Worker, elsewhere: Worker
) -> None:
    backend.is_cut = True
    task = begin(worker)
    task.end(EndReason.FINISHED)
    backend.is_cut = False
    wait_until(lambda: elsewhere.stop(task.record.task_id, ALICE) is StopOutcome.ENDED)


def test_all_ends_of_an_outage_are_told_when_it_is_over() -> None:
    backend = FaultyBackend()
    worker, elsewhere = (Worker(backend, sweep_interval=60.0) for _ in range(2))
    tasks = [begin(worker) for _ in range(5)]
    backend.is_cut = True
    for task in tasks:
        task.end(EndReason.FINISHED)
    with pytest.raises(BackendError):
        worker.stop("unknown", ALICE)
    backend.is_cut = False

    def has_ended(task: Task) -> bool:
        return elsewhere.stop(task.record.task_id, ALICE) is StopOutcome.ENDED

    wait_until(lambda: all(has_ended(task) for task in tasks))
    worker.close()


class RenewingBackend(FaultyBackend):
    """A store in which leases are renewed at the very moment of an announcement."""

    worker: Worker | None = None

    def __init__(self) -> None:
        super().__init__()
        self.renewed = threading.Event()

    def announce(self, record: TaskRecord) -> bool:
        if self.worker is not None:
            self.renewed.clear()
            self.worker._running.look_again()
            assert self.renewed.wait(5)
        return super().announce(record)

    def renew(self, records: Sequence[TaskRecord]) -> set[str]:
        taken = super().renew(records)
        self.renewed.set()
        return taken


def test_a_task_that_begins_while_others_are_renewed_does_not_find_its_id_taken() -> (
    None
):
    backend = RenewingBackend()
    worker = Worker(backend)
    before = begin(worker)
    backend.worker = worker
    task = begin(worker)
    outcome = Worker(backend).stop(task.record.task_id, ALICE)
    assert outcome is StopOutcome.STOPPING
    assert task.stopped.wait(5) and not before.stopped.is_set()
    backend.worker = None
    worker.close()


def test_an_outage_is_one_line_in_the_log_and_its_end_another(
    backend: FaultyBackend, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")
    task = begin(worker)
    backend.is_cut = True
    for _ in range(5):
        with pytest.raises(BackendError):
            worker.stop("unknown", ALICE)
    wait_until(lambda: "Lost the store" in caplog.text)
    backend.is_cut = False
    wait_until(lambda: "Found the store" in caplog.text)
    lines = [record.getMessage() for record in caplog.records]
    assert len([line for line in lines if line.startswith("Lost the store")]) == 1
    assert len([line for line in lines if line.startswith("Found the store")]) == 1
    assert not task.stopped.is_set()


def test_a_worker_without_tasks_finds_its_store_again(
    backend: FaultyBackend, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    backend.is_cut = True
    with pytest.raises(BackendError):
        worker.stop("unknown", ALICE)
    backend.is_cut = False
    wait_until(lambda: "Found the store" in caplog.text)


def test_a_backend_with_a_bug_leaves_the_worker_alive() -> None:
    class Buggy(FaultyBackend):
        has_bug = True

        def stops(self, worker_id: str, task_ids: Collection[str]) -> set[str]:
            if self.has_bug:
                raise ZeroDivisionError
            return super().stops(worker_id, task_ids)

    buggy = Buggy()
    one, two = (Worker(buggy, sweep_interval=0.1) for _ in range(2))
    task = begin(one)
    two.stop(task.record.task_id, ALICE)
    buggy.has_bug = False
    assert task.stopped.wait(10)
    one.close()


def test_a_task_that_nobody_holds_is_ended_as_failed(
    worker: Worker, backend: FaultyBackend
) -> None:
    task = begin(worker)
    record = task.record
    worker.abandon(task)
    wait_until(lambda: backend.stop(record.task_id, ALICE) is StopOutcome.ENDED)
    assert task.reason is EndReason.FAILED


def test_its_threads_end_when_nothing_runs_and_begin_again(worker: Worker) -> None:
    for _ in range(2):
        with threads_begun() as begun:
            task = begin(worker)
        names = {thread.name for thread in begun}
        assert names == {"chatstop_reconciler", "chatstop_listener"}
        task.end(EndReason.FINISHED)
        wait_until(partial(are_over, begun))


def test_its_greenlets_do_nothing_in_a_forked_child() -> None:
    run(
        """
        from gevent import monkey
        monkey.patch_all()
        import os, time
        from flask_chatstop import MemoryBackend
        from flask_chatstop.testing import wait_until
        from flask_chatstop.worker import Worker
        from tests.support.faulty_worker import begin

        class Counting(MemoryBackend):
            returned = calls = 0

            def listen(self, *arguments):
                self.calls += 1
                time.sleep(0.01)  # it returns again and again, as in an outage
                self.returned += 1

            def stops(self, *arguments):
                self.calls += 1
                return set()

        backend = Counting()
        task = begin(Worker(backend, sweep_interval=0.05))
        wait_until(lambda: backend.returned > 0)
        child = os.fork()
        before = backend.calls
        if child == 0:
            time.sleep(1)  # for a listener that waits for the store
            os._exit(backend.calls > before + 2)  # what each of the two has begun
        assert os.waitpid(child, 0)[1] == 0
        wait_until(lambda: backend.calls > before + 2)
        os._exit(0)
        """
    )


def test_a_worker_that_nobody_holds_goes_away(backend: FaultyBackend) -> None:
    worker = Worker(backend, sweep_interval=0.05)
    gone = weakref.ref(worker)
    begin(worker).end(EndReason.FINISHED)
    del worker

    def is_gone() -> bool:
        gc.collect()
        return gone() is None

    wait_until(is_gone)


def test_a_process_that_exits_ends_what_it_ran_and_reports_it() -> None:
    printed = run(
        """
        from flask_chatstop import EndReason, MemoryBackend
        from tests.support.chat import Chat, Source

        class Printing(MemoryBackend):
            def end(self, record, reason):
                print("store:", reason.value, flush=True)
                return super().end(record, reason)

        chat = Chat(Source("One "), config={"CHATSTOP_BACKEND": Printing()})
        answer = chat.ask()
        answer.next()
        chat.tasks[0].on_end(lambda end: print("on_end:", end.reason.value, flush=True))
        """
    )
    assert printed.splitlines() == ["on_end: failed", "store: failed"]


def test_a_forked_child_has_a_worker_of_its_own_and_leaves_its_parents_tasks() -> None:
    printed = run(
        """
        import os, gc
        from tests.support.chat import Chat, Source

        chat = Chat(Source("One "))
        answer = chat.ask()
        worker = chat.app.extensions["chatstop"].worker
        parent = worker.id
        child = os.fork()
        if child == 0:
            assert worker.id != parent
            assert chat.stop(answer.task_id).status_code == 404
            chat.tasks.clear()
            own = chat.ask()
            assert chat.stop(own.task_id).status_code == 200
            del own
            gc.collect()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert chat.tasks[0].end_reason is None
        assert not chat.tasks[0].stopped
        assert chat.stop(answer.task_id).headers["Chatstop-Outcome"] == "stopping"
        assert answer.rest()[-1]["metadata"]["end_reason"] == "stopped"
        print("parent and child are right")
        """
    )
    assert printed == "parent and child are right\n"


def test_a_forked_child_that_leaves_its_parents_stream_ends_nothing() -> None:
    printed = run(
        """
        import os
        from tests.support.chat import Chat, Source

        chat = Chat(Source("One "))
        answer = chat.ask()
        answer.next()
        child = os.fork()
        if child == 0:
            task = chat.tasks[0]
            assert not task.stop()
            assert not task.stopped
            answer.leave()
            assert not task.end("finished")
            os._exit(chat.ends != [])
        assert os.waitpid(child, 0)[1] == 0
        assert chat.stop(answer.task_id).headers["Chatstop-Outcome"] == "stopping"
        assert answer.rest()[-1]["metadata"]["end_reason"] == "stopped"
        print("the parent goes on")
        """
    )
    assert printed == "the parent goes on\n"


def test_under_gevent_a_silent_source_blocks_nobody() -> None:
    printed = run(
        """
        from gevent import monkey; monkey.patch_all()
        import gevent
        from tests.support.chat import Chat, Source

        source = Source("One ")
        chat = Chat(source)
        answer = chat.ask()
        print(answer.next()["answer"])
        reading = gevent.spawn(answer.rest)
        source.is_silent.wait()
        print(chat.stop(answer.task_id).headers["Chatstop-Outcome"])
        print(reading.get(timeout=5)[-1]["metadata"]["end_reason"])
        source.go_on.set()
        """
    )
    assert printed.splitlines() == ["One ", "stopping", "stopped"]


@pytest.mark.slow
def test_a_collection_that_ends_a_task_may_come_at_any_moment() -> None:
    printed = run(
        """
        import gc, threading
        from flask_chatstop import EndReason, MemoryBackend
        from flask_chatstop.worker import Worker
        from tests.support.faulty_worker import Task, begin

        class Collecting(str):
            def __hash__(self):
                gc.collect()
                return super().__hash__()

        def generation(task):
            try:
                yield
            finally:
                task.end(EndReason.FAILED)

        worker = Worker(MemoryBackend())
        garbage = [generation(begin(worker))]
        next(garbage[0])
        garbage.append(garbage)
        del garbage
        starting = threading.Thread(
            target=worker.start, args=(Task(worker, Collecting("id")),), daemon=True
        )
        starting.start()
        starting.join(20)
        assert not starting.is_alive()
        """
    )
    assert printed == ""

"""What a stop promises, whatever has happened to the workers and their store."""

from collections.abc import Iterator

from hypothesis.stateful import RuleBasedStateMachine

from flask_chatstop import EndReason, StopOutcome
from flask_chatstop.testing import wait_until
from tests.support.breakable_stores import MemoryStore
from tests.support.line import Line
from tests.support.worker_under_test import Generation, WorkerUnderTest

#: Seconds; a worker waits up to 5 s before it tries a store that it has lost again, and
#: a busy machine may fail a try.
PATIENCE = 30.0
#: Any answer of a store that refuses a task, or may not know it.
ANY_ANSWER = {200, 404, 503}


class Promises(RuleBasedStateMachine):
    """Three workers of one store, and what must hold of them.

    The promise: when a stop was answered with success, its task has stopped after one
    sweep of its worker at the latest. Only this excuses it: the store has lost its
    data before the worker has heard of the stop.
    """

    store = MemoryStore()

    def __init__(self) -> None:
        super().__init__()
        self.is_away = self.is_read_only = self.is_full = False
        self.probe = self.store.open()
        self.workers = [
            WorkerUnderTest(f"worker {number}", Line(self.store.open()))
            for number in range(3)
        ]

    @property
    def alive(self) -> list[WorkerUnderTest]:
        return [worker for worker in self.workers if not worker.is_dead]

    @property
    def is_well(self) -> bool:
        """Whether the store takes whatever it is told."""
        return not (self.is_away or self.is_read_only or self.is_full)

    def worker(
        self, number: int, after: WorkerUnderTest | None = None
    ) -> WorkerUnderTest:
        """Give one that is alive; 0 is the one that it is counted from."""
        alive = self.alive
        start = alive.index(after) if after in alive else 0
        return alive[(start + number) % len(alive)]

    def is_down(self, worker: WorkerUnderTest) -> bool:
        return self.is_away or worker.line.is_cut

    def may_fail(self, worker: WorkerUnderTest) -> bool:
        return self.is_down(worker) or self.is_read_only or worker.is_doubtful

    def begin_one(
        self,
        number: int,
        user: str,
        ends_when_stopped: bool,
        task_id: str | None = None,
    ) -> Generation:
        worker = self.worker(number)
        generation = worker.begin(user, ends_when_stopped, task_id)
        generation.is_refused = task_id is not None
        generation.end_may_be_unknown = generation.is_refused or self.is_full
        generation.may_be_unknown = (
            generation.end_may_be_unknown or self.may_fail(worker) or worker.is_shaken
        )
        return generation

    def stop_through(
        self, worker: WorkerUnderTest, generation: Generation, *, may_end: bool
    ) -> None:
        may_be = self.answers_to(worker, generation, may_end)
        generation.was_asked_to_stop = True
        status, outcome = worker.stop(generation.task.id, generation.user)
        assert status in may_be, f"{status} {outcome} of {generation}, not {may_be}"
        if status == 200:
            assert outcome in ("stopping", "stopped", "ended")
            generation.was_promised_to_stop = True

    def answers_to(
        self, worker: WorkerUnderTest, generation: Generation, may_end: bool
    ) -> set[int]:
        may_end |= generation.ends_when_stopped and generation.task.stopped
        if generation.worker is worker and generation.runs and not may_end:
            return {200}
        if self.is_down(worker) and generation.runs and not may_end:
            return {503}
        if generation.is_refused:
            return ANY_ANSWER
        return self.answers_of_the_store(worker, generation)

    def answers_of_the_store(
        self, worker: WorkerUnderTest, generation: Generation
    ) -> set[int]:
        may_be = {503} if self.may_fail(worker) else set()
        if generation.worker.is_dead:
            found = {404} if generation.runs else {200, 404}
            if generation.end_may_be_unknown:
                found.add(200)  # its lease was left to run, since it was refused
        else:
            is_unsure = generation.may_be_unknown or generation.end_may_be_unknown
            found = {200, 404} if is_unsure else {200}
        # Nobody is told that there is no such task by a store that cannot know it.
        if self.is_read_only and 404 in found and not self.is_away:
            found = found - {404} | {503}
        if self.is_full and 404 in found and self.store.tells_that_it_is_full:
            found = found - {404} | {503}
        return may_be | found

    def knows(self, generation: Generation) -> bool:
        return bool(self.probe.tasks(task_id=generation.task.id))

    def all_generations(self) -> Iterator[Generation]:
        for worker in self.workers:
            yield from worker.generations

    def sweep_all(self, workers: list[WorkerUnderTest]) -> None:
        running = [g for worker in workers for g in worker.generations if g.runs]
        was_shaken = [worker for worker in workers if worker.line.errors]
        for worker in workers:
            worker.sweep()
        # A stop that was kept beyond the lease is found by the renewal, and that is
        # refused as well.
        found = [g for g in running if not (g.is_refused and g.may_be_unknown)]
        wait_until(lambda: not any(g.must_stop for g in found), PATIENCE)
        if self.is_full:
            return
        wait_until(lambda: all(w.has_its_store for w in workers), PATIENCE)
        known = [g for g in running if not g.is_refused]
        wait_until(lambda: all(self.knows(g) or not g.runs for g in known), PATIENCE)
        for generation in known:
            if generation.runs:
                generation.may_be_unknown = generation.end_may_be_unknown = False
        for worker in workers:
            worker.is_doubtful = False
            worker.is_shaken = worker in was_shaken

    def teardown(self) -> None:
        try:
            self.heal()
            self.sweep_all(self.alive)
            alive = [g for worker in self.alive for g in worker.generations]
            for generation in alive:
                generation.task.end(EndReason.FINISHED)
            for generation in alive:
                self.check_end(generation)
        finally:
            for worker in self.workers:
                worker.close()
            self.probe.close()

    def heal(self) -> None:
        self.store.give_back()
        self.store.make_writable()
        self.store.make_room()
        self.is_away = self.is_read_only = self.is_full = False
        self.accept_all()
        for worker in self.alive:
            worker.line.is_cut = False
            worker.line.errors.clear()

    def accept_all(self) -> None:
        refused = [g for g in self.all_generations() if g.is_refused]
        self.store.accept([generation.task.id for generation in refused])
        for generation in refused:
            generation.is_refused = False

    def check_end(self, generation: Generation) -> None:
        reason = generation.task.end_reason
        is_stopped = generation.task.stopped
        assert reason is (EndReason.STOPPED if is_stopped else EndReason.FINISHED)
        assert generation.was_asked_to_stop or not is_stopped
        wait_until(lambda: len(generation.signals) == 1)
        assert [end.reason for end in generation.ends] == [reason]
        assert generation.signals == [reason]
        if generation.end_may_be_unknown:
            return
        outcomes = {StopOutcome.STOPPED if is_stopped else StopOutcome.ENDED}
        if self.store.loses_data and generation.may_be_unknown:
            outcomes.add(StopOutcome.MISSING)
        owner = generation.task.record.owner
        wait_until(lambda: self.probe.stop(generation.task.id, owner) in outcomes)

"""Three workers of one store as a state machine, and what a stop promises in it."""

from collections.abc import Callable, Iterator
from functools import partial

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    multiple,
    precondition,
    rule,
)

from flask_chatstop import EndReason, StopOutcome
from flask_chatstop.testing import wait_until
from tests.support.breakable_stores import (
    Line,
    MemoryStore,
)
from tests.support.worker_under_test import Generation, WorkerUnderTest, at_once

USERS = ["alice", "bob"]
BEGUN = st.sampled_from(USERS), st.booleans()
NUMBERS = st.integers(0, 2)


class Protocol(RuleBasedStateMachine):
    """Three workers of one store, and all that may happen to them.

    The promise: when a stop was answered with success, its task has stopped after one
    sweep of its worker at the latest. Only this excuses it: the store has lost its
    data before the worker has heard of the stop.
    """

    store = MemoryStore()
    generations: Bundle[Generation] = Bundle("generations")

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False
        self.probe = self.store.open()
        self.workers = [
            WorkerUnderTest(f"worker {number}", Line(self.store.open()))
            for number in range(3)
        ]

    @property
    def alive(self) -> list[WorkerUnderTest]:
        return [worker for worker in self.workers if not worker.is_dead]

    def worker(
        self, number: int, after: WorkerUnderTest | None = None
    ) -> WorkerUnderTest:
        """Give one that is alive; 0 is the one that it is counted from."""
        alive = self.alive
        start = alive.index(after) if after in alive else 0
        return alive[(start + number) % len(alive)]

    def is_down(self, worker: WorkerUnderTest) -> bool:
        return self.is_away or worker.line.is_cut

    @initialize(
        target=generations,
        hearing=st.sets(NUMBERS),
        begun=st.lists(st.tuples(NUMBERS, *BEGUN), min_size=3, max_size=8),
    )
    def open_workers(
        self, hearing: set[int], begun: list[tuple[int, str, bool]]
    ) -> MultipleResults[Generation]:
        for number, worker in enumerate(self.workers):
            worker.line.is_deaf = number not in hearing
        return multiple(*(self.begin_one(*each) for each in begun))

    # what people do

    @rule(
        target=generations,
        number=NUMBERS,
        user=BEGUN[0],
        ends_when_stopped=BEGUN[1],
    )
    def begin(self, number: int, user: str, ends_when_stopped: bool) -> Generation:
        return self.begin_one(number, user, ends_when_stopped)

    @rule(generation=generations)
    def stop_here(self, generation: Generation) -> None:
        worker = self.worker(0, after=generation.worker)
        self.stop_through(worker, generation, may_end=False)

    @rule(generation=generations, number=st.integers(1, 2))
    def stop_elsewhere(self, generation: Generation, number: int) -> None:
        worker = self.worker(number, after=generation.worker)
        self.stop_through(worker, generation, may_end=False)

    @rule(generation=generations, number=NUMBERS)
    def stop_as_a_stranger(self, generation: Generation, number: int) -> None:
        worker = self.worker(number)
        stranger = next(user for user in USERS if user != generation.user)
        status, _ = worker.stop(generation.task.id, stranger)
        assert status in ({404, 503} if self.may_fail(worker) else {404})

    @rule(generation=generations, number=st.none() | NUMBERS)
    def finish(self, generation: Generation, number: int | None) -> None:
        """End it, and perhaps stop it at once."""
        finish = partial(generation.task.end, EndReason.FINISHED)
        actions: list[Callable[[], object]] = [finish]
        if number is not None:
            worker = self.worker(number, after=generation.worker)
            stop = partial(self.stop_through, worker, generation, may_end=True)
            actions.append(stop)
        at_once(*actions)

    # what happens to rings

    @rule(number=NUMBERS, is_deaf=st.booleans())
    def lose_rings_or_hear_them_late(self, number: int, is_deaf: bool) -> None:
        line = self.worker(number).line
        line.is_deaf = is_deaf
        if not is_deaf:
            line.ring_late()

    @precondition(lambda self: self.store.has_sockets)
    @rule()
    def remove_the_sockets(self) -> None:
        self.store.remove_sockets()

    @rule(number=NUMBERS)
    def sweep(self, number: int) -> None:
        worker = self.worker(number)
        if not self.is_down(worker):
            self.sweep_all([worker])

    # what happens to lines, stores and workers

    @precondition(lambda self: self.store.can_break and not self.is_away)
    @rule()
    def take_the_store_away(self) -> None:
        if self.store.loses_data:
            for generation in self.all_generations():
                generation.may_be_unknown = True
                generation.was_promised_to_stop &= not generation.must_stop
        self.store.take_away()
        self.is_away = True
        for worker in self.workers:
            worker.is_doubtful = True

    @precondition(lambda self: self.is_away)
    @rule()
    def give_the_store_back(self) -> None:
        self.store.give_back()
        self.is_away = False

    @precondition(lambda self: not any(b.line.is_cut for b in self.alive))
    @rule(number=NUMBERS)
    def cut_a_line(self, number: int) -> None:
        worker = self.worker(number)
        worker.line.is_cut = worker.is_doubtful = True

    @precondition(lambda self: any(b.line.is_cut for b in self.alive))
    @rule()
    def mend_the_line(self) -> None:
        for worker in self.alive:
            worker.line.is_cut = False

    @precondition(lambda self: self.store.can_expire and not self.is_away)
    @precondition(lambda self: any(b.line.is_cut for b in self.alive))
    @rule()
    def let_the_leases_of_one_that_is_cut_off_run_out(self) -> None:
        for worker in self.alive:
            if worker.line.is_cut:
                self.let_leases_run_out(worker)

    @precondition(lambda self: self.store.can_expire and not self.is_away)
    @precondition(lambda self: not any(b.line.is_cut for b in self.alive))
    @rule(generation=generations, number=st.integers(1, 2))
    def stop_one_that_is_cut_off_for_longer_than_its_lease(
        self, generation: Generation, number: int
    ) -> None:
        worker = generation.worker
        if worker.is_dead:
            return
        worker.line.is_cut = worker.is_doubtful = True
        elsewhere = self.worker(number, after=worker)
        self.stop_through(elsewhere, generation, may_end=False)
        self.let_leases_run_out(worker)

    @precondition(lambda self: self.store.can_expire and not self.is_away)
    @precondition(lambda self: len(self.alive) == 3)
    @rule(number=NUMBERS)
    def die(self, number: int) -> None:
        worker = self.worker(number)
        worker.line.is_cut = worker.is_dead = True
        self.let_leases_run_out(worker)

    def let_leases_run_out(self, worker: WorkerUnderTest) -> None:
        # A renewal that went out before the cut would give them a lease of a minute.
        wait_until(lambda: worker.line.is_quiet)
        # In its name, since nobody waits for a lease of a minute to run out.
        heir = self.store.open(lease=0.1)
        heir.renew([generation.task.record for generation in worker.generations])
        for generation in worker.generations:
            generation.may_be_unknown = True
            wait_until(lambda known=generation: not self.knows(known))  # type: ignore[misc]
        heir.close()

    # what must hold

    def begin_one(self, number: int, user: str, ends_when_stopped: bool) -> Generation:
        worker = self.worker(number)
        generation = worker.begin(user, ends_when_stopped)
        generation.may_be_unknown = self.may_fail(worker)
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
        may_be = {503} if self.may_fail(worker) else set()
        if generation.worker.is_dead:
            return may_be | ({404} if generation.runs else {200, 404})
        return may_be | ({200, 404} if generation.may_be_unknown else {200})

    def may_fail(self, worker: WorkerUnderTest) -> bool:
        return self.is_down(worker) or worker.is_doubtful

    def knows(self, generation: Generation) -> bool:
        return bool(self.probe.tasks(task_id=generation.task.id))

    def all_generations(self) -> Iterator[Generation]:
        for worker in self.workers:
            yield from worker.generations

    def sweep_all(self, workers: list[WorkerUnderTest]) -> None:
        running = [g for worker in workers for g in worker.generations if g.runs]
        for worker in workers:
            worker.sweep()
        wait_until(lambda: all(worker.has_its_store for worker in workers))
        wait_until(lambda: not any(g.must_stop for g in running))
        wait_until(lambda: all(self.knows(g) or not g.runs for g in running))
        for generation in running:
            if generation.runs:
                generation.may_be_unknown = False
        for worker in workers:
            worker.is_doubtful = False

    def teardown(self) -> None:
        try:
            self.store.give_back()
            for worker in self.alive:
                worker.line.is_cut = False
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

    def check_end(self, generation: Generation) -> None:
        reason = generation.task.end_reason
        is_stopped = generation.task.stopped
        assert reason is (EndReason.STOPPED if is_stopped else EndReason.FINISHED)
        assert generation.was_asked_to_stop or not is_stopped
        wait_until(lambda: len(generation.signals) == 1)
        assert [end.reason for end in generation.ends] == [reason]
        assert generation.signals == [reason]
        outcomes = {StopOutcome.STOPPED if is_stopped else StopOutcome.ENDED}
        if self.store.loses_data and generation.may_be_unknown:
            outcomes.add(StopOutcome.MISSING)
        owner = generation.task.record.owner
        wait_until(lambda: self.probe.stop(generation.task.id, owner) in outcomes)

"""Three workers of one store as a state machine: all that may happen to them."""

import uuid
from collections.abc import Callable
from functools import partial

from gevent import GreenletExit, Timeout
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from flask_chatstop import EndReason
from flask_chatstop.testing import wait_until
from tests.support.promises import Promises
from tests.support.worker_under_test import Generation, WorkerUnderTest, at_once

USERS = ["alice", "bob"]
BEGUN = st.sampled_from(USERS), st.booleans()
NUMBERS = st.integers(0, 2)


#: Whatever is raised in a thread: the first two end it.
_RECONCILERS = [SystemExit, GreenletExit, Timeout, MemoryError]
#: Another error in a call of the reconciler's is one of the record that it is about,
#: as if the store refused it.
_LISTENERS = [*_RECONCILERS, ZeroDivisionError]
RAISED = st.sampled_from(
    [("chatstop_reconciler", error) for error in _RECONCILERS]
    + [("chatstop_listener", error) for error in _LISTENERS]
)


class Protocol(Promises):
    """All that may happen to three workers of one store, in any order."""

    generations: Bundle[Generation] = Bundle("generations")
    #: How many there were, in all runs.
    operations = 0

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
        may_fail = self.may_fail(worker) or self.is_full or generation.is_refused
        assert status in ({404, 503} if may_fail else {404})

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
        if not (self.is_down(worker) or self.is_read_only):
            self.sweep_all([worker])

    # what happens to lines, stores and workers

    @precondition(lambda self: self.store.can_break and not self.is_away)
    @rule()
    def take_the_store_away(self) -> None:
        if self.store.loses_data:
            for generation in self.all_generations():
                generation.is_refused = False
                self.lose(generation)
            self.is_full = self.is_read_only = False
        self.store.take_away()
        self.is_away = True
        for worker in self.workers:
            worker.is_doubtful = True

    @precondition(lambda self: self.is_away)
    @rule()
    def give_the_store_back(self) -> None:
        self.store.give_back()
        self.is_away = False

    @precondition(lambda self: self.store.can_be_read_only and self.is_well)
    @rule()
    def let_the_store_take_no_writes(self) -> None:
        self.store.make_read_only()
        self.is_read_only = True
        for worker in self.workers:
            worker.is_shaken = True
            worker.is_doubtful |= self.store.cuts_connections

    @precondition(lambda self: self.is_read_only and not self.is_away)
    @rule()
    def let_the_store_take_writes_again(self) -> None:
        self.store.make_writable()
        self.is_read_only = False

    @precondition(lambda self: self.is_well)
    @rule()
    def fill_the_store(self) -> None:
        for generation in self.all_generations():
            generation.end_may_be_unknown |= generation.may_be_unknown
        self.store.fill()
        self.is_full = True

    @precondition(lambda self: self.is_full and not self.is_away)
    @rule()
    def give_the_store_room(self) -> None:
        self.store.make_room()
        self.is_full = False

    @precondition(lambda self: self.is_well)
    @rule(target=generations, number=NUMBERS, user=BEGUN[0], ends_when_stopped=BEGUN[1])
    def begin_one_that_the_store_refuses(
        self, number: int, user: str, ends_when_stopped: bool
    ) -> Generation:
        task_id = str(uuid.uuid4())
        self.store.refuse(task_id)
        return self.begin_one(number, user, ends_when_stopped, task_id)

    @precondition(lambda self: self.is_well)
    @rule(generation=generations)
    def refuse(self, generation: Generation) -> None:
        if not generation.is_refused:
            generation.is_refused = generation.end_may_be_unknown = True
            self.store.refuse(generation.task.id)
            if self.store.loses_refused:
                self.lose(generation)

    @precondition(lambda self: self.is_well)
    @rule()
    def accept_what_was_refused(self) -> None:
        self.accept_all()

    @rule(number=NUMBERS, raised=RAISED)
    def raise_in_a_thread(
        self, number: int, raised: tuple[str, type[BaseException]]
    ) -> None:
        worker = self.worker(number)
        name, error = raised
        worker.line.errors[name] = error
        worker.is_shaken = True

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

    @precondition(lambda self: self.store.can_expire and self.is_well)
    @precondition(lambda self: any(b.line.is_cut for b in self.alive))
    @rule()
    def let_the_leases_of_one_that_is_cut_off_run_out(self) -> None:
        for worker in self.alive:
            if worker.line.is_cut:
                self.let_leases_run_out(worker)

    @precondition(lambda self: self.store.can_expire and self.is_well)
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

    @precondition(lambda self: self.store.can_expire and self.is_well)
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
        lapsing = [x for x in worker.generations if not x.is_refused]
        heir.renew([generation.task.record for generation in lapsing])
        for generation in lapsing:
            generation.may_be_unknown = True
            wait_until(lambda known=generation: not self.knows(known))  # type: ignore[misc]
        heir.close()

    def lose(self, generation: Generation) -> None:
        """Note that the store has lost it, and a stop that nobody has heard."""
        generation.may_be_unknown = True
        generation.was_promised_to_stop &= not generation.must_stop

    @invariant()
    def nothing_ends_twice(self) -> None:
        Protocol.operations += 1
        for generation in self.all_generations():
            assert len(generation.ends) <= 1 and len(generation.signals) <= 1

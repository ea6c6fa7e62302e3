"""Tests of what every backend must do, for authors of backends.

Needs pytest and hypothesis: ``pip install pytest hypothesis``.
"""

import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from flask_chatstop.backends import (
    EndReason,
    Owner,
    StopBackend,
    StopOutcome,
    TaskRecord,
)
from flask_chatstop.testing.model import against_a_model
from flask_chatstop.testing.tasks import (
    ALICE,
    BOB,
    NEARLY_ALICE,
    new_record,
    new_worker,
)
from flask_chatstop.testing.waiting import drain, listening, wait_until


class BackendContract:
    """The contract of :class:`~flask_chatstop.StopBackend`, a test for each promise.

    Derive a test class from it and fill in :meth:`open_backend`::

        class TestMyBackend(BackendContract):
            def open_backend(self, **options):
                return MyBackend("localhost", **options)
    """

    #: Whether two backends from :meth:`open_backend` share one store.
    is_shared = True

    def open_backend(self, **options: Any) -> StopBackend:
        """Return a new backend on the store under test.

        :param options: ``lease``, ``retention`` and ``timeout`` of the backend.
        """
        raise NotImplementedError

    @pytest.fixture
    def backend(self) -> Iterator[StopBackend]:
        """Return a backend with the default times."""
        backend = self.open_backend()
        yield backend
        backend.close()

    @pytest.fixture
    def hasty(self) -> Iterator[StopBackend]:
        """Return a backend that forgets within a second."""
        backend = self.open_backend(lease=1.0, retention=1.0)
        yield backend
        backend.close()

    @pytest.fixture
    def patient(self, hasty: StopBackend) -> Iterator[StopBackend]:
        """Return another one on that store, whose times outlive a slow machine."""
        patient = self.open_backend() if self.is_shared else hasty
        yield patient
        patient.close()

    @pytest.fixture
    def other(self, backend: StopBackend) -> Iterator[StopBackend]:
        """Return another worker's backend on the same store."""
        other = self.open_backend() if self.is_shared else backend
        yield other
        other.close()

    # announce

    def test_an_announced_task_can_be_stopped_through_any_worker(
        self, backend: StopBackend, other: StopBackend
    ) -> None:
        record = new_record()
        assert backend.announce(record) is True
        assert other.stop(record.task_id, ALICE) is StopOutcome.STOPPING

    @pytest.mark.parametrize("state", ["running", "stopping", "ended"])
    def test_an_id_in_use_is_refused_and_stays_as_it_is(
        self, backend: StopBackend, state: str
    ) -> None:
        record = new_record()
        backend.announce(record)
        if state != "running":
            backend.stop(record.task_id, ALICE)
        if state == "ended":
            backend.end(record, EndReason.STOPPED)
        thief = TaskRecord(record.task_id, BOB, new_worker())
        assert backend.announce(thief) is False
        assert backend.announce(record) is False
        assert backend.stop(record.task_id, BOB) is StopOutcome.MISSING
        expected = StopOutcome.STOPPED if state == "ended" else StopOutcome.STOPPING
        assert backend.stop(record.task_id, ALICE) is expected
        assert backend.stops(thief.worker_id, [record.task_id]) == set()

    def test_a_task_that_is_not_renewed_is_forgotten_and_its_id_is_free(
        self, hasty: StopBackend, patient: StopBackend
    ) -> None:
        record = new_record()
        hasty.announce(record)
        wait_until(lambda: hasty.stop(record.task_id, ALICE) is StopOutcome.MISSING)
        assert hasty.stops(record.worker_id, [record.task_id]) == set()
        again = new_record(task_id=record.task_id, owner=BOB)
        assert patient.announce(again) is True
        assert hasty.stop(record.task_id, ALICE) is StopOutcome.MISSING
        assert hasty.stop(record.task_id, BOB) is StopOutcome.STOPPING

    @pytest.mark.parametrize(
        "task_id",
        ["x" * 255, "ü" * 255, "😀" * 255, "it's", 'a"b', "a b", "%_\\", "{}:*?", "é"],
    )
    def test_every_id_and_owner_that_the_wire_allows_is_kept(
        self, backend: StopBackend, task_id: str
    ) -> None:
        task_id = task_id[:223] + uuid.uuid4().hex
        owner = Owner(task_id, task_id, task_id)
        record = new_record(task_id=task_id, owner=owner)
        assert backend.announce(record) is True
        assert backend.stop(task_id, owner) is StopOutcome.STOPPING
        assert backend.stops(record.worker_id, [task_id]) == {task_id}
        backend.end(record, EndReason.STOPPED)
        assert backend.stop(task_id, owner) is StopOutcome.STOPPED

    def test_ids_are_told_apart_byte_for_byte(self, backend: StopBackend) -> None:
        name = uuid.uuid4().hex
        ids = [f"{name}a", f"{name}A", f"{name}á", f"{name}a ", f"{name}a\u0301"]
        for task_id in ids:
            assert backend.announce(new_record(task_id=task_id)) is True
        assert backend.stop(f"{name} a", ALICE) is StopOutcome.MISSING

    # renew

    def test_a_renewed_task_outlives_its_lease(
        self, hasty: StopBackend, patient: StopBackend
    ) -> None:
        renewed, left = new_record(), new_record()
        hasty.announce(renewed)
        hasty.announce(left)

        def left_is_gone() -> bool:
            patient.renew([renewed])
            return hasty.stop(left.task_id, ALICE) is StopOutcome.MISSING

        wait_until(left_is_gone)
        assert hasty.stop(renewed.task_id, ALICE) is StopOutcome.STOPPING

    def test_a_task_that_the_store_has_lost_runs_again_when_renewed(
        self, backend: StopBackend
    ) -> None:
        worker_id = new_worker()
        records = [new_record(worker_id=worker_id) for _ in range(50)]
        backend.announce(records[0])
        assert backend.renew(records) == set()
        for record in records:
            assert backend.stop(record.task_id, ALICE) is StopOutcome.STOPPING
        ids = [record.task_id for record in records]
        assert backend.stops(worker_id, ids) == set(ids)

    def test_renewing_leaves_stopping_and_ended_tasks_as_they_are(
        self, backend: StopBackend
    ) -> None:
        worker_id = new_worker()
        stopping, ended = (new_record(worker_id=worker_id) for _ in range(2))
        for record in (stopping, ended):
            backend.announce(record)
        backend.stop(stopping.task_id, ALICE)
        backend.end(ended, EndReason.FINISHED)
        assert backend.renew([stopping, ended]) == {ended.task_id}
        assert backend.stops(worker_id, [stopping.task_id]) == {stopping.task_id}
        assert backend.stop(ended.task_id, ALICE) is StopOutcome.ENDED

    def test_a_task_whose_lease_ran_out_after_its_stop_is_stopping_when_renewed(
        self,
    ) -> None:
        # Of 2 s: a busy machine needs a part of it for the announcement and the stop.
        backend = self.open_backend(lease=2.0)
        patient = self.open_backend() if self.is_shared else backend
        record, theirs = new_record(), new_record()
        for each in (record, theirs):
            backend.announce(each)
            assert backend.stop(each.task_id, ALICE) is StopOutcome.STOPPING
        for each in (record, theirs):
            wait_until(lambda task_id=each.task_id: not backend.tasks(task_id=task_id))  # type: ignore[misc]
            assert backend.stop(each.task_id, ALICE) is StopOutcome.MISSING
            assert backend.stops(each.worker_id, [each.task_id]) == set()
            backend.end(each, EndReason.FINISHED)
        assert patient.renew([record]) == set()
        assert backend.stops(record.worker_id, [record.task_id]) == {record.task_id}
        heir = new_record(task_id=theirs.task_id)
        assert patient.renew([heir]) == set()
        assert backend.stops(heir.worker_id, [heir.task_id]) == set()
        assert backend.renew([theirs]) == {theirs.task_id}
        assert backend.stop(heir.task_id, ALICE) is StopOutcome.STOPPING
        backend.close()
        patient.close()

    def test_renewing_leaves_a_task_of_another_worker_as_it_is(
        self, backend: StopBackend
    ) -> None:
        record = new_record()
        backend.announce(record)
        thief = TaskRecord(record.task_id, BOB, new_worker())
        lost = new_record(worker_id=thief.worker_id)
        assert backend.renew([thief, lost]) == {record.task_id}
        assert backend.stop(lost.task_id, ALICE) is StopOutcome.STOPPING
        assert backend.stop(record.task_id, BOB) is StopOutcome.MISSING
        assert backend.stop(record.task_id, ALICE) is StopOutcome.STOPPING
        assert backend.stops(thief.worker_id, [record.task_id]) == set()

    def test_renewing_nothing_does_nothing(self, backend: StopBackend) -> None:
        assert backend.renew([]) == set()

    # stop

    def test_an_unknown_task_is_missing_and_stays_free(
        self, backend: StopBackend
    ) -> None:
        record = new_record()
        assert backend.stop(record.task_id, ALICE) is StopOutcome.MISSING
        assert backend.announce(record) is True
        assert backend.stops(record.worker_id, [record.task_id]) == set()

    @pytest.mark.parametrize("stranger", NEARLY_ALICE)
    def test_a_stranger_finds_nothing_and_changes_nothing(
        self, backend: StopBackend, stranger: Owner
    ) -> None:
        record = new_record()
        backend.announce(record)
        assert backend.stop(record.task_id, stranger) is StopOutcome.MISSING
        assert backend.stops(record.worker_id, [record.task_id]) == set()
        backend.end(record, EndReason.FINISHED)
        assert backend.stop(record.task_id, stranger) is StopOutcome.MISSING

    def test_a_second_stop_is_no_error(self, backend: StopBackend) -> None:
        record = new_record()
        backend.announce(record)
        for _ in range(3):
            assert backend.stop(record.task_id, ALICE) is StopOutcome.STOPPING

    @pytest.mark.parametrize("reason", list(EndReason))
    @pytest.mark.parametrize("was_asked", [True, False])
    def test_a_late_stop_is_told_how_the_task_ended(
        self, backend: StopBackend, reason: EndReason, was_asked: bool
    ) -> None:
        record = new_record()
        backend.announce(record)
        if was_asked:
            backend.stop(record.task_id, ALICE)
        backend.end(record, reason)
        stopped = reason is EndReason.STOPPED
        expected = StopOutcome.STOPPED if stopped else StopOutcome.ENDED
        assert backend.stop(record.task_id, ALICE) is expected
        assert backend.stop(record.task_id, ALICE) is expected

    def test_a_stop_rings_the_worker_of_the_task_and_no_other(
        self, backend: StopBackend, other: StopBackend
    ) -> None:
        mine, theirs = new_record(), new_record()
        for record in (mine, theirs):
            backend.announce(record)
        with (
            listening(backend, [mine]) as my_bell,
            listening(other, [theirs]) as their_bell,
        ):
            other.stop(mine.task_id, ALICE)
            assert my_bell.get(timeout=5) == mine.task_id
            backend.stop(theirs.task_id, ALICE)
            assert their_bell.get(timeout=5) == theirs.task_id
        assert mine.task_id not in drain(their_bell)
        assert theirs.task_id not in drain(my_bell)

    # end

    def test_the_first_end_counts(self, backend: StopBackend) -> None:
        record = new_record()
        backend.announce(record)
        assert backend.end(record, EndReason.FINISHED) is True
        assert backend.end(record, EndReason.STOPPED) is False
        assert backend.stop(record.task_id, ALICE) is StopOutcome.ENDED

    def test_the_end_of_an_unknown_task_changes_nothing(
        self, backend: StopBackend
    ) -> None:
        record = new_record()
        backend.end(record, EndReason.FINISHED)
        assert backend.stop(record.task_id, ALICE) is StopOutcome.MISSING
        assert backend.announce(record) is True

    def test_a_task_cannot_be_ended_by_another_worker(
        self, backend: StopBackend
    ) -> None:
        record = new_record()
        backend.announce(record)
        thief = TaskRecord(record.task_id, ALICE, new_worker())
        assert backend.end(thief, EndReason.FINISHED) is False
        assert backend.stop(record.task_id, ALICE) is StopOutcome.STOPPING

    def test_an_ended_task_is_forgotten_after_the_retention(
        self, hasty: StopBackend, patient: StopBackend
    ) -> None:
        record = new_record()
        patient.announce(record)
        assert hasty.end(record, EndReason.FINISHED) is True
        wait_until(lambda: hasty.stop(record.task_id, ALICE) is StopOutcome.MISSING)
        assert hasty.announce(record) is True

    # stops

    def test_reading_the_stops_changes_nothing(self, backend: StopBackend) -> None:
        worker_id = new_worker()
        asked, left = (new_record(worker_id=worker_id) for _ in range(2))
        for record in (asked, left):
            backend.announce(record)
        backend.stop(asked.task_id, ALICE)
        ids = [asked.task_id, left.task_id, uuid.uuid4().hex]
        for _ in range(3):
            assert backend.stops(worker_id, ids) == {asked.task_id}

    def test_the_stops_of_a_worker_are_its_own_that_are_not_over(
        self, backend: StopBackend
    ) -> None:
        mine, theirs = new_record(), new_record()
        for record in (mine, theirs):
            backend.announce(record)
            backend.stop(record.task_id, ALICE)
        ids = [mine.task_id, theirs.task_id]
        assert backend.stops(mine.worker_id, ids) == {mine.task_id}
        backend.end(mine, EndReason.STOPPED)
        assert backend.stops(mine.worker_id, ids) == set()

    def test_the_stops_of_nothing_are_nothing(self, backend: StopBackend) -> None:
        assert backend.stops(new_worker(), []) == set()

    # has_ended

    def test_an_ended_task_is_told_from_others_if_the_store_tells(
        self, backend: StopBackend
    ) -> None:
        running, stopping, ended, stopped = records = [new_record() for _ in range(4)]
        for record in records:
            backend.announce(record)
        backend.stop(stopping.task_id, stopping.owner)
        backend.stop(stopped.task_id, stopped.owner)
        backend.end(ended, EndReason.FINISHED)
        backend.end(stopped, EndReason.STOPPED)
        for record in (ended, stopped):
            assert backend.has_ended(record.task_id, record.owner) in (True, None)
        other = ended.owner._replace(user="somebody-else")
        for task_id, owner in (
            (running.task_id, running.owner),
            (stopping.task_id, stopping.owner),
            (ended.task_id, other),
            (new_record().task_id, ended.owner),
        ):
            assert backend.has_ended(task_id, owner) in (False, None)

    # tasks

    def test_running_and_stopping_tasks_are_listed_the_oldest_first(
        self, backend: StopBackend
    ) -> None:
        owner = Owner("app", "service-api", uuid.uuid4().hex)
        records = [new_record(owner=owner) for _ in range(3)]
        for record in records:
            backend.announce(record)
        backend.stop(records[1].task_id, owner)
        backend.end(records[2], EndReason.FINISHED)
        found = backend.tasks(user=owner.user)
        assert [info.record for info in found] == records[:2]
        assert [info.is_stopping for info in found] == [False, True]
        assert all(0 <= info.age < 60 for info in found)
        left = [info.lease_left for info in found if info.lease_left is not None]
        assert all(0 < seconds <= backend.lease for seconds in left)

    def test_tasks_are_found_by_their_id_and_by_each_part_of_their_owner(
        self, backend: StopBackend
    ) -> None:
        name = uuid.uuid4().hex
        record = new_record(owner=Owner(f"app-{name}", f"src-{name}", f"user-{name}"))
        backend.announce(record)
        backend.announce(new_record(owner=Owner(f"APP-{name}", name, f"user-{name} ")))
        for wanted in (
            {"task_id": record.task_id},
            {"app": f"app-{name}"},
            {"source": f"src-{name}"},
            {"user": f"user-{name}"},
            {"app": f"app-{name}", "user": f"user-{name}"},
        ):
            assert [info.record for info in backend.tasks(**wanted)] == [record]
        assert backend.tasks(app=f"app-{name}", user="bob") == []
        assert backend.tasks(task_id=name) == []
        assert record in [info.record for info in backend.tasks()]

    # listen

    def test_a_stop_from_before_the_listening_is_heard(
        self, backend: StopBackend
    ) -> None:
        record = new_record()
        backend.announce(record)
        backend.stop(record.task_id, ALICE)
        with listening(backend, [record]) as bell:
            assert bell.get(timeout=5) == record.task_id

    def test_the_listening_ends_when_it_is_told_to(self, backend: StopBackend) -> None:
        closing, heard = threading.Event(), threading.Event()
        thread = threading.Thread(
            target=backend.listen,
            args=(new_worker(), list, lambda _: heard.set(), closing),
        )
        thread.start()
        assert heard.wait(5), "heard was not called when the listening began"
        closing.set()
        thread.join(2 * backend.timeout + 1)
        assert not thread.is_alive()

    # check and close

    def test_a_store_in_order_passes_the_check(self, backend: StopBackend) -> None:
        backend.check()

    def test_a_closed_backend_connects_again(self, backend: StopBackend) -> None:
        record = new_record()
        backend.announce(record)
        backend.close()
        assert backend.stop(record.task_id, ALICE) is not StopOutcome.ENDED

    # all of it at once

    def test_a_hundred_threads_agree_on_every_task(self) -> None:
        # Each of them waits for most of the others, which takes a busy machine long.
        backend = self.open_backend(timeout=60.0)
        records = [new_record() for _ in range(20)]
        for record in records:
            backend.announce(record)
        outcomes: list[list[StopOutcome]] = [[] for _ in range(100)]
        start = threading.Barrier(100)

        def stop_or_end(number: int) -> None:
            start.wait()
            for record in records:
                if number % 10 == 0:
                    backend.end(record, EndReason.STOPPED)
                elif number % 10 == 5:
                    backend.end(record, EndReason.FAILED)
                else:
                    outcomes[number].append(backend.stop(record.task_id, ALICE))

        threads = [
            threading.Thread(target=stop_or_end, args=(number,))
            for number in range(100)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for index, record in enumerate(records):
            final = backend.stop(record.task_id, ALICE)
            assert final in (StopOutcome.STOPPED, StopOutcome.ENDED)
            seen = {found[index] for found in outcomes if found}
            assert seen <= {StopOutcome.STOPPING, final}
            assert backend.stops(record.worker_id, [record.task_id]) == set()
        backend.close()

    def test_any_sequence_of_calls_agrees_with_a_plain_model(
        self, backend: StopBackend
    ) -> None:
        run_state_machine_as_test(
            against_a_model(backend),
            settings=settings(
                max_examples=50,
                stateful_step_count=30,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )

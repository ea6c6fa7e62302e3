from contextlib import ExitStack
from typing import Any

from flask_chatstop import EndReason, MemoryBackend, StopOutcome
from flask_chatstop.testing import (
    ALICE,
    BackendContract,
    drain,
    listening,
    new_record,
    wait_until,
)


class TestMemoryBackend(BackendContract):
    is_shared = False

    def open_backend(self, **options: Any) -> MemoryBackend:
        return MemoryBackend(**options)


def size_of(backend: MemoryBackend) -> int:
    return len(backend._running) + len(backend._ended)


def test_its_first_line_says_that_it_serves_one_process() -> None:
    assert "one process" in (MemoryBackend.__doc__ or "").splitlines()[0]


def test_only_the_stop_that_changes_the_state_rings() -> None:
    backend = MemoryBackend()
    record = new_record()
    backend.announce(record)
    with listening(backend, [record]) as bell:
        for _ in range(5):
            backend.stop(record.task_id, ALICE)
        assert drain(bell) == [record.task_id]


def test_stops_of_unknown_ids_take_no_memory() -> None:
    backend = MemoryBackend()
    for number in range(10_000):
        assert backend.stop(f"unknown-{number}", ALICE) is StopOutcome.MISSING
    assert size_of(backend) == 0


def test_ended_and_abandoned_tasks_are_forgotten() -> None:
    backend = MemoryBackend(lease=0.2, retention=0.2)
    for number in range(1_000):
        record = new_record()
        backend.announce(record)
        if number % 2:
            backend.end(record, EndReason.FINISHED)

    def has_forgotten() -> bool:
        backend.stop("any call", ALICE)
        return size_of(backend) == 0

    wait_until(has_forgotten)


def test_a_listener_that_ends_leaves_the_one_that_took_its_place() -> None:
    backend, record = MemoryBackend(), new_record()
    backend.announce(record)
    with ExitStack() as first:
        first.enter_context(listening(backend, [record]))
        with listening(backend, [record]) as bell:
            first.close()
            backend.stop(record.task_id, ALICE)
            assert bell.get(timeout=5) == record.task_id

"""Tests of what every log of answers must do, for authors of logs.

Needs pytest and hypothesis, as the contract of backends does.
"""

import queue
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from flask_chatstop.events import EventLog, Page, Record
from flask_chatstop.events.records import END
from flask_chatstop.testing.waiting import wait_until

HEAD = Record(0, b"head")


def new_log_id() -> str:
    """Return an id that no log has."""
    return secrets.token_hex(32)


class EventLogContract:
    """The contract of :class:`~flask_chatstop.events.EventLog`.

    Derive a test class from it and fill in :meth:`open_log`::

        class TestMyEventLog(EventLogContract):
            def open_log(self, **options):
                return MyEventLog("localhost", **options)
    """

    #: Whether two logs from :meth:`open_log` share one store.
    is_shared = True

    def open_log(self, **options: Any) -> EventLog:
        """Return a new log on the store under test.

        :param options: ``retention``, ``timeout`` and ``max_bytes``.
        """
        raise NotImplementedError

    @pytest.fixture
    def log(self) -> Iterator[EventLog]:
        """Return a log with the default times."""
        log = self.open_log()
        yield log
        log.close()

    @pytest.fixture
    def hasty(self) -> Iterator[EventLog]:
        """Return a log that forgets within a second."""
        log = self.open_log(retention=1.0)
        yield log
        log.close()

    @pytest.fixture
    def patient(self, hasty: EventLog) -> Iterator[EventLog]:
        """Return another one on that store, which outlives a slow machine."""
        patient = self.open_log() if self.is_shared else hasty
        yield patient
        patient.close()

    @pytest.fixture
    def other(self, log: EventLog) -> Iterator[EventLog]:
        """Return another worker's log on the same store."""
        other = self.open_log() if self.is_shared else log
        yield other
        other.close()

    def test_what_was_added_is_read_by_any_worker_from_any_position(
        self, log: EventLog, other: EventLog
    ) -> None:
        log_id = new_log_id()
        records = [Record(number, b"%d" % number) for number in (1, 4, 9, END)]
        assert log.append({log_id: [HEAD, *records[:2]]}) == set()
        assert other.read(log_id, 0) == Page(b"head", records[:2])
        assert log.append({log_id: records[2:]}) == set()
        for after, left in [(-1, 4), (0, 4), (1, 3), (3, 3), (4, 2), (8, 2), (9, 1)]:
            page = other.read(log_id, after)
            assert page is not None
            assert (page.head, list(page.records)) == (b"head", records[-left:])
        assert self.numbers(other, log_id, END - 1) == [END]
        assert self.numbers(other, log_id, END) == []

    def test_any_bytes_are_kept(self, log: EventLog) -> None:
        log_id = new_log_id()
        data = [
            bytes(range(256)),
            b"",
            b"\0",
            "ü\U0001f642".encode()[:-1],
            b"x" * 300_000,
        ]
        records = [Record(number, each) for number, each in enumerate(data, 1)]
        log.append({log_id: [Record(0, bytes(range(256))), *records]})
        page = log.read(log_id, 0)
        assert page is not None
        assert (page.head, list(page.records)) == (bytes(range(256)), records)

    def test_any_bytes_are_kept_when_they_are_added_alone(self, log: EventLog) -> None:
        log_id = new_log_id()
        log.append({log_id: [HEAD]})
        data = [bytes(range(256)), b"%s %(x)s \\ ' \" :b", b"", b"\\x00", b"\0\r\n\xff"]
        records = [Record(number, each) for number, each in enumerate(data, 1)]
        records.append(Record(END, bytes(reversed(range(256)))))
        for record in records:
            assert log.append({log_id: [record]}) == set()
        page = log.read(log_id, 0)
        assert page is not None
        assert list(page.records) == records

    def test_an_unknown_log_is_not_read_and_not_added_to(self, log: EventLog) -> None:
        known, unknown = new_log_id(), new_log_id()
        log.append({known: [HEAD]})
        added = {known: [Record(1, b"1")], unknown: [Record(1, b"1")]}
        assert log.append(added) == {unknown}
        assert log.read(unknown, 0) is None
        assert self.numbers(log, known, 0) == [1]
        log.renew([unknown])
        assert log.read(unknown, 0) is None

    def test_a_call_that_is_repeated_changes_nothing(self, log: EventLog) -> None:
        log_id = new_log_id()
        log.append({log_id: [HEAD]})
        for _ in range(2):
            assert log.append({log_id: [Record(2, b"a"), Record(3, b"b")]}) == set()
        log.append({log_id: [Record(3, b"b"), Record(5, b"c")]})
        page = log.read(log_id, 0)
        assert page is not None
        assert [x.data for x in page.records] == [b"a", b"b", b"c"]

    def test_a_log_that_begins_again_has_nothing_of_what_was_there(
        self, log: EventLog
    ) -> None:
        log_id = new_log_id()
        log.append({log_id: [HEAD, Record(1, b"old"), Record(END, b"old")]})
        log.append({log_id: [Record(0, b"new"), Record(3, b"new")]})
        assert log.read(log_id, 0) == Page(b"new", [Record(3, b"new")])

    def test_a_read_is_bounded_and_many_of_them_return_everything(
        self, log: EventLog
    ) -> None:
        log_id = new_log_id()
        log.append({log_id: [HEAD]})
        for start in range(1, 801, 40):
            numbers = range(start, start + 40)
            log.append({log_id: [Record(x, b"%08d" % x * 1000) for x in numbers]})
        read: list[Record] = []
        while True:
            page = log.read(log_id, read[-1].number if read else 0)
            assert page is not None
            if not page.records:
                break
            assert sum(len(x.data) for x in page.records) < 4_000_000
            read += page.records
        assert read == [Record(x, b"%08d" % x * 1000) for x in range(1, 801)]

    def test_a_wait_ends_when_another_worker_has_added_something(
        self, log: EventLog, other: EventLog
    ) -> None:
        log_id = new_log_id()
        log.append({log_id: [HEAD, Record(1, b"1")]})
        log.wait(log_id, 0, 60.0)
        heard = threading.Event()

        def wait() -> None:
            while not self.numbers(other, log_id, 1):
                other.wait(log_id, 1, 60.0)
            heard.set()

        threading.Thread(target=wait, daemon=True).start()
        log.append({log_id: [Record(2, b"2")]})
        assert heard.wait(10)

    def test_waits_for_many_logs_at_once_end_each_with_its_own(
        self, log: EventLog
    ) -> None:
        # Ten threads connect at once, which takes a busy machine long.
        other = self.open_log(timeout=30.0) if self.is_shared else log
        log_ids = [new_log_id() for _ in range(5)]
        log.append({log_id: [HEAD] for log_id in log_ids})
        heard: queue.Queue[str] = queue.Queue()

        def wait(log_id: str) -> None:
            last = 0
            while last != END:
                other.wait(log_id, last, 60.0)
                if numbers := self.numbers(other, log_id, last):
                    last = numbers[-1]
                    heard.put(log_id)

        for log_id in [*log_ids, *log_ids]:  # two waits for each
            threading.Thread(target=wait, args=(log_id,), daemon=True).start()
        for number in (1, END):
            for log_id in log_ids:
                log.append({log_id: [Record(number, b"")]})
                assert {heard.get(timeout=30) for _ in range(2)} == {log_id}
        assert heard.empty()
        other.close()

    def test_a_wait_for_what_is_there_ends_at_once(
        self, log: EventLog, other: EventLog
    ) -> None:
        log_id = new_log_id()
        log.append({log_id: [HEAD]})
        other.wait(log_id, 0, 0.05)
        log.append({log_id: [Record(1, b""), Record(2, b"")]})
        for after in (1, 0):
            begun = time.monotonic()
            other.wait(log_id, after, 60.0)
            assert time.monotonic() - begun < 10

    def test_a_wait_returns_nothing_but_a_record_that_is_there(
        self, log: EventLog, other: EventLog
    ) -> None:
        for size in (10, 100_000):
            log_id = new_log_id()
            records = [Record(1, b"1"), Record(4, b"4"), Record(END, b"\0e" * size)]
            log.append({log_id: [HEAD]})
            returned = [other.wait(log_id, 0, 0.05)]
            for record in records:
                log.append({log_id: [record]})
                returned.append(other.wait(log_id, record.number - 1, 60.0))
            returned.append(other.wait(log_id, 1, 60.0))
            assert set(returned) <= {None, *records}
            assert other.wait(log_id, END, 0.05) is None

    def test_a_log_that_was_closed_waits_again(
        self, log: EventLog, other: EventLog
    ) -> None:
        log_id = new_log_id()
        log.append({log_id: [HEAD]})
        for number in (1, 2):
            other.wait(log_id, number - 1, 0.05)
            timer = threading.Timer(0.1, log.append, [{log_id: [Record(number, b"")]}])
            timer.start()
            while not self.numbers(other, log_id, number - 1):
                other.wait(log_id, number - 1, 60.0)
            timer.join()
            other.close()

    def test_a_wait_in_vain_ends_as_well(self, log: EventLog) -> None:
        log_id = new_log_id()
        log.append({log_id: [HEAD]})
        log.wait(log_id, 0, 0.05)
        log.wait(new_log_id(), 0, 0.05)
        assert self.numbers(log, log_id, 0) == []

    def test_a_log_is_forgotten_after_the_retention(
        self, hasty: EventLog, patient: EventLog
    ) -> None:
        log_id, kept = new_log_id(), new_log_id()
        assert patient.read(kept, 0) is None  # and it is connected
        hasty.append({log_id: [HEAD, Record(1, b"1")], kept: [HEAD]})
        # What follows may take longer: a purge is of what others have left too.
        patient.renew([kept])

        def is_forgotten() -> bool:
            if patient is hasty:
                hasty.renew([kept])
            return hasty.read(log_id, 0) is None

        wait_until(is_forgotten)
        assert hasty.append({log_id: [Record(2, b"2")]}) == {log_id}
        hasty.renew([log_id])
        assert hasty.read(log_id, 0) is None
        assert patient.append({kept: [Record(1, b"1")]}) == set()
        while hasty.purge():
            pass
        assert self.numbers(hasty, kept, 0) == [1]
        assert patient.append({log_id: [HEAD, Record(1, b"new")]}) == set()
        assert self.numbers(hasty, log_id, 0) == [1]

    def test_the_end_keeps_a_log_for_another_retention(self, hasty: EventLog) -> None:
        def is_kept_longer() -> bool:
            log_id, first = new_log_id(), new_log_id()
            hasty.append({log_id: [HEAD], first: [HEAD]})
            time.sleep(0.6)
            hasty.append({log_id: [Record(END, b"")]})
            wait_until(lambda: hasty.read(first, 0) is None)
            time.sleep(0.1)
            page = hasty.read(log_id, 0)
            wait_until(lambda: hasty.read(log_id, 0) is None)
            return page is not None and [x.number for x in page.records] == [END]

        # On a slow machine, the other retention may be over before it is seen.
        assert any(is_kept_longer() for _ in range(5))

    def test_it_is_checked_and_opened_again(self, log: EventLog) -> None:
        log_id = new_log_id()
        log.append({log_id: [HEAD]})
        log.check()
        log.close()
        assert log.read(log_id, 0) == Page(b"head", [])

    @staticmethod
    def numbers(log: EventLog, log_id: str, after: int) -> list[int]:
        """Return the numbers of the records that a read returns."""
        page = log.read(log_id, after)
        assert page is not None
        return [record.number for record in page.records]

"""What the log gets of an answer, record by record."""

from flask_chatstop.events.answer import LoggedAnswer
from flask_chatstop.events.records import END, HEAD, Record, pack, unpack


class Bell:
    """A writer that takes nothing by itself."""

    def wake(self, answer: LoggedAnswer) -> None: ...


def answer_of(*frames: bytes, max_bytes: int = 1_000_000) -> LoggedAnswer:
    """Begin an answer, of which the log has the head."""
    answer = LoggedAnswer(Bell(), "id", b"head", max_bytes)
    assert answer.take() == [Record(HEAD, b"head")]
    answer.written()
    for frame in frames:
        answer.append(frame)
    return answer


def test_the_last_frames_are_in_the_record_of_the_end() -> None:
    answer = answer_of(b"1", b"2")
    answer.finish(b"end")
    assert answer.take() == [Record(END, pack(1, [b"1", b"2", b"end"]))]
    assert answer.take() == [Record(END, pack(1, [b"1", b"2", b"end"]))]
    assert answer.written() == END
    assert answer.is_written


def test_an_end_without_a_frame_is_a_record_of_its_own() -> None:
    answer = answer_of(b"1", b"2")
    answer.finish(b"")
    assert answer.take() == [Record(2, pack(1, [b"1", b"2"])), Record(END, pack(3, []))]


def test_long_frames_stay_out_of_the_record_of_the_end() -> None:
    frames = [b"x" * 50_000, b"y" * 50_000, b"z"]
    answer = answer_of(*frames)
    answer.finish(b"end")
    assert answer.take() == [
        Record(2, pack(1, frames[:2])),
        Record(END, pack(3, [b"z", b"end"])),
    ]


def test_what_has_waited_is_taken_a_part_at_a_time() -> None:
    answer = answer_of(*[b"x" * 60_000] * 50, max_bytes=10_000_000)
    answer.finish(b"end")
    parts = []
    while not answer.is_written:
        part = answer.take()
        assert answer.take() == part
        parts.append(sum(len(record.data) for record in part))
        answer.written()
    assert len(parts) >= 3
    assert max(parts) < 1_200_000
    assert answer.waiting_bytes < 10_000
    assert not answer.has_more


def test_all_that_waits_can_be_left_out_before_its_end() -> None:
    answer = answer_of(*[b"x" * 60_000] * 50, max_bytes=10_000_000)
    answer.take()
    answer.finish(b"end")
    answer.leave_out()
    assert answer.take() == [Record(50, pack(50, [])), Record(END, pack(51, [b"end"]))]


def test_an_end_after_a_loss_has_no_frames_from_before_it() -> None:
    answer = answer_of(b"1", b"2" * 100, b"3", max_bytes=50)
    answer.finish(b"end")
    assert answer.take() == [
        Record(1, pack(1, [b"1"])),
        Record(2, pack(2, [])),
        Record(END, pack(4, [b"end"])),
    ]


def test_an_end_that_was_refused_is_written_without_the_frames() -> None:
    answer = answer_of(b"1", b"2")
    answer.finish(b"end")
    answer.take()
    answer.leave_out()
    assert answer.take() == [Record(2, pack(2, [])), Record(END, pack(3, [b"end"]))]


def test_a_log_that_was_lost_begins_again_with_what_waits() -> None:
    answer = answer_of(b"1", b"2")
    answer.take()
    answer.written()
    answer.append(b"3")
    answer.finish(b"end")
    answer.take()
    answer.begin_again()
    head, end = answer.take()
    assert (head.number, end.number) == (HEAD, END)
    assert unpack(end.data).after(2) == [b"3", b"end"]

"""One answer on its way to the log, between the thread that sends it and the writer."""

import time
from collections import deque
from typing import Protocol

from flask_chatstop.events.records import END, HEAD, Record, pack

#: Bytes of frames that are put into one record, and into the records of one call. After
#: an outage more may wait than a slow link takes within the timeout.
_LONGEST, AT_ONCE = 64 * 1024, 1024 * 1024
#: Bytes of one answer that wait in memory while the store is slow or away. A source
#: that is faster than any model, like an answer that was saved, needs it too: the
#: writer's thread may not get a turn before much was sent.
_WAITING = 8 * 1024 * 1024
#: Bytes of one answer that are written at once.
_MUCH = 128 * 1024
#: Bytes of the last frames that are put into the record of the end.
_WITH_END = 2 * 1024
#: What a frame takes beside its bytes.
_FRAME = 4
#: What an answer takes beside its frames.
_ANSWER = 2048


class AnswerWriter(Protocol):
    """What an answer needs to know of its writer."""

    def wake(self, answer: "LoggedAnswer") -> None: ...


class LoggedAnswer:
    """The frames of one answer, of which the first is number 1.

    One thread at a time appends; it takes no lock and waits for nothing. The writer's
    thread takes what was appended.

    :param head: the data of the record that begins the log.
    :param max_bytes: how much is kept.
    """

    def __init__(
        self, writer: AnswerWriter, log_id: str, head: bytes, max_bytes: int
    ) -> None:
        self.log_id = log_id
        #: How many frames there are.
        self.count = 0
        self._writer = writer
        self._head = Record(HEAD, head)
        self._max_bytes = max_bytes
        # Written by the thread that sends the answer.
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._lost_at: int | None = None
        self._end: bytes | None = None
        self._is_sent = False
        #: When the last frame was kept, by the monotonic clock.
        self.ended_at = 0.0
        self._is_waiting = self._is_much = False
        # Written by the writer's thread.
        self._records = [self._head]
        self._limit = min(max_bytes, _WAITING)
        self._taken_bytes = self._written_bytes = 0
        self._taken = 0
        self._has_begun = False
        self._has_told_of_loss = False
        self._has_taken_end = False

    @property
    def is_over(self) -> bool:
        """Whether the last frame was appended."""
        return self._end is not None

    @property
    def is_urgent(self) -> bool:
        """Whether it is to be written at once.

        Its client has got the end, much of it waits, or nothing of it was written yet.
        """
        is_sent = self.is_over and self._is_sent
        return is_sent or self._is_much or not self._has_begun

    @property
    def is_written(self) -> bool:
        """Whether the store has the whole answer, or as much of it as it can have."""
        return self._has_taken_end and not self._records

    @property
    def has_more(self) -> bool:
        """Whether there is more than one call is to take."""
        return bool(self._frames)

    @property
    def waiting_bytes(self) -> int:
        """About how much memory it takes until it is written."""
        return _ANSWER + self._bytes - self._written_bytes

    def append(self, frame: bytes) -> None:
        """Keep a frame that is being sent."""
        self.count += 1
        if self._lost_at is not None:
            return
        size = len(frame) + _FRAME
        if self._bytes + size > self._limit:
            self._lost_at = self.count
        else:
            self._bytes += size
            self._frames.append(frame)
        is_much = self._bytes - self._written_bytes > _MUCH
        if not self._is_waiting or (is_much and not self._is_much):
            self._is_waiting, self._is_much = True, is_much
            self._writer.wake(self)

    def finish(self, frame: bytes) -> None:
        """Keep the last frame, which may be empty."""
        self.count += bool(frame)
        self.ended_at = time.monotonic()
        self._end = frame
        self._writer.wake(self)

    def sent(self) -> None:
        """Note that the client has got all that it gets, or has left."""
        self._is_sent = True
        if self.is_over:
            self._writer.wake(self)

    def take(self) -> list[Record]:
        """Return the records that the store is to have; the writer's thread calls it.

        They are returned again until :meth:`written` is called.
        """
        # Before taking: a frame may come meanwhile.
        self._is_waiting = self._is_much = False
        end, lost_at = self._end, self._lost_at
        is_last = end is not None and not self._has_taken_end
        last: list[bytes] = []
        while self._frames:
            if self._taken_bytes - self._written_bytes >= AT_ONCE:
                return self._records
            part, first = self._take_part(), self._taken + 1
            self._taken += len(part)
            is_short = sum(map(len, part)) <= _WITH_END
            if is_last and end and lost_at is None and not self._frames and is_short:
                last = part  # one record is added and read sooner than two
            else:
                self._records.append(Record(self._taken, pack(first, part)))
        if lost_at is not None and not self._has_told_of_loss:
            self._has_told_of_loss = True
            self._records.append(Record(lost_at, pack(lost_at, [])))
        if is_last:
            self._has_taken_end = True
            self._records.append(self._end_after(last))
        return self._records

    def _take_part(self) -> list[bytes]:
        """Return the frames of one record."""
        part: list[bytes] = []
        size = 0
        while self._frames and size < _LONGEST:
            part.append(self._frames.popleft())
            size += len(part[-1])
        self._taken_bytes += size + _FRAME * len(part)
        return part

    def written(self) -> int:
        """Note that the store has what was taken, and return the highest number."""
        number = self._records[-1].number if self._records else -1
        self._has_begun = True
        self._records = []
        self._written_bytes = self._taken_bytes
        self._limit = min(self._max_bytes, self._taken_bytes + _WAITING)
        return number

    def begin_again(self) -> None:
        """Note that the store has lost the log, which begins anew.

        Its first record is what the store does not have yet. Followers see by the
        numbers of the frames whether any are missing before it.
        """
        left = [record for record in self._records if record.number != HEAD]
        self._records = [self._head, *left]

    def leave_out(self) -> None:
        """Leave out what the store refuses, or what there is no room for."""
        while self._frames:  # one more may come meanwhile
            self._frames.popleft()
            self._taken += 1
        heads = [record for record in self._records if record.number == HEAD]
        self._records = heads + self._without_frames()
        self._taken_bytes = self._written_bytes = self._bytes

    def _end_after(self, frames: list[bytes]) -> Record:
        """Return the record of the end, with the last frames before it."""
        frames = [*frames, self._end] if self._end else []
        return Record(END, pack(self.count + 1 - len(frames), frames))

    def _without_frames(self) -> list[Record]:
        """Return what is to be written, with a note in place of its frames."""
        is_over = any(record.number == END for record in self._records)
        left = [self._end_after([])] if is_over else []
        if self._taken:
            left.insert(0, Record(self._taken, pack(self._taken, [])))
        return left

"""What a log keeps of an answer: a head, frames by their numbers, the end.

A record is bytes under a number, and a store knows no more of it. Number 0 is the head.
Frames that were gathered are one record, under the number of the last of them. So the
records after a position are those that hold a frame after it. The end is under
:data:`END`, above all others: whoever reads on from any position finds it. A record
without frames says that frames are missing from here on.
"""

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from flask_chatstop.backends import Owner

#: The number of the head.
HEAD = 0
#: The number of the last record of an answer that is over.
END = 2**31 - 1
#: The last event of an answer whose worker is gone has this position.
LOST_END = "end"

_LENGTH = struct.Struct(">I")


class Record(NamedTuple):
    """Bytes under a number."""

    number: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """What a follower needs to know before the first frame.

    :param heartbeat: seconds of silence after which a ping is sent.
    :param ping: what is sent in silence.
    :param lost: what is sent where frames are missing.
    :param failed_end: what is sent last if the answer's worker is gone.
    """

    content_type: str
    headers: Mapping[str, str]
    heartbeat: float
    ping: bytes
    lost: bytes
    failed_end: bytes

    def packed(self) -> bytes:
        """Return it as the data of a record."""
        fields = asdict(self)
        frames = [fields.pop(name) for name in ("ping", "lost", "failed_end")]
        return pack(0, [json.dumps(fields).encode(), *frames])

    @classmethod
    def unpacked(cls, data: bytes) -> "Head":
        """Return it from the data of a record."""
        fields, ping, lost, failed_end = unpack(data).frames
        return cls(**json.loads(fields), ping=ping, lost=lost, failed_end=failed_end)


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames that follow each other.

    :param first: the number of the first one; of the first that is missing, if there
        are none.
    """

    first: int
    frames: Sequence[bytes]

    @property
    def last(self) -> int:
        """The number of the last one."""
        return self.first + len(self.frames) - 1

    def after(self, position: int) -> Sequence[bytes]:
        """Return those after a position."""
        return self.frames[max(0, position + 1 - self.first) :]


def pack(first: int, frames: Sequence[bytes]) -> bytes:
    """Return frames as the data of a record."""
    parts = [_LENGTH.pack(first)]
    for frame in frames:
        parts += (_LENGTH.pack(len(frame)), frame)
    return b"".join(parts)


def unpack(data: bytes) -> Frames:
    """Return frames from the data of a record."""
    [first] = _LENGTH.unpack_from(data)
    frames = []
    at = _LENGTH.size
    while at < len(data):
        [length] = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        frames.append(data[at : at + length])
        at += length
    return Frames(first, frames)


def log_id_of(task_id: str, owner: Owner) -> str:
    """Return under which name the answer of an owner's task is kept.

    The owner is part of it. So nobody finds the answer of somebody else, even if two
    tasks have got the same id while the store of tasks was away.
    """
    parts = json.dumps([task_id, *owner])
    return hashlib.sha256(parts.encode()).hexdigest()

"""What a listener is told of a log of answers, as text."""

from typing import NamedTuple

#: Bytes of an end that is told with the news. Longer ones are read by who follows.
LONGEST_END = 4 * 1024


class News(NamedTuple):
    """A log, and what is last in it.

    :param number: of its last record.
    :param end: the data of its end, unless it is too long.
    """

    log_id: str
    number: int
    end: bytes | None = None

    def __str__(self) -> str:
        text = f"{self.log_id} {self.number}"
        return text if self.end is None else f"{text} {self.end.hex().upper()}"

    @classmethod
    def parse(cls, text: str) -> "News":
        """Return them from their text."""
        log_id, number, *end = text.split(" ")
        return cls(log_id, int(number), *map(bytes.fromhex, end))

"""The text of an answer, kept while it is sent."""

import codecs
import re

#: Bytes, about, that pieces may take before they become one string. A string of a few
#: characters takes more than ten times their memory.
_APART = 131_072
#: Bytes that a string takes besides its characters.
_EACH = 64
#: Characters that are repaired at a time.
_SLICE = 65_536

_SURROGATE = re.compile("[\ud800-\udfff]")


class AnswerText:
    """A text that grows piece by piece, and takes little more memory than itself.

    One thread adds to it, and any thread may read it. There is no lock, since the
    garbage collector may end a task, and so read it, in the thread that adds.
    """

    __slots__ = ("_apart", "_joined", "_parts")

    def __init__(self) -> None:
        self._parts: list[str] = []
        # So many parts at the front are made of many pieces, and are valid Unicode.
        self._joined = 0
        self._apart = 0

    def add(self, piece: str) -> None:
        """Add a piece."""
        parts = self._parts
        parts.append(piece)
        self._apart += len(piece) + _EACH
        if self._apart < _APART:
            return
        text = "".join(parts[self._joined :])
        rest = []
        if "\ud800" <= text[-1:] <= "\udbff":  # the other half may come
            text, rest = text[:-1], [text[-1]]
        parts[self._joined :] = [_valid(text), *rest]
        self._joined += 1
        self._apart = 0

    def replace(self, text: str) -> None:
        """Forget what there is, and begin with another text."""
        self._joined = self._apart = 0
        self._parts = []
        self.add(text)

    def __str__(self) -> str:
        """Return the text so far, as every store accepts it."""
        joined = self._joined  # first: a part that is joined meanwhile is checked again
        parts = list(self._parts)
        parts[joined:] = [_valid("".join(parts[joined:]))]
        return "".join(parts)


def _valid(text: str) -> str:
    """Return a text with its surrogates paired, and U+FFFD for those alone."""
    if text.isascii() or not _SURROGATE.search(text):
        return text
    decoder = codecs.getincrementaldecoder("utf-16-le")("replace")
    slices = (text[n : n + _SLICE] for n in range(0, len(text), _SLICE))
    units = (part.encode("utf-16-le", "surrogatepass") for part in slices)
    return "".join([*map(decoder.decode, units), decoder.decode(b"", final=True)])

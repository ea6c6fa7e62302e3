"""Plain text: the answer and nothing else."""

import codecs

from flask_chatstop.backends import EndReason
from flask_chatstop.formats.base import FAILED, StreamFormat
from flask_chatstop.generation.end import GenerationEnd


class PlainText(StreamFormat):
    """The bare text of the answer, in UTF-8.

    A client finds the task id in the header ``Chatstop-Task-Id``. There are no pings,
    since a client would take them for text. So the server notices only with the next
    chunk that the client has left.

    :param stopped: text that is added to a stopped answer.
    :param failed: text that is added to an answer that failed.
    """

    mimetype = "text/plain"

    def __init__(self, *, stopped: str = "", failed: str = f"\n[{FAILED}]") -> None:
        self._added = {EndReason.STOPPED: stopped, EndReason.FAILED: failed}
        # Half of a surrogate pair waits here for the other half.
        self._pairs = codecs.getincrementaldecoder("utf-16-le")("replace")

    def chunk(self, chunk: str) -> bytes:
        if not isinstance(chunk, str):
            raise TypeError(
                f"A chunk of plain text must be a str, not {type(chunk).__name__}."
            )
        return self._encode(chunk)

    def end(self, end: GenerationEnd) -> bytes:
        return self._encode(self._added.get(end.reason, ""), final=True)

    def _encode(self, text: str, final: bool = False) -> bytes:
        units = text.encode("utf-16-le", "surrogatepass")
        return self._pairs.decode(units, final).encode()

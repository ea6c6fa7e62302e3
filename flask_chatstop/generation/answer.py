"""What has been sent of an answer."""

from collections.abc import Mapping
from types import MappingProxyType

from flask_chatstop.generation.text import AnswerText
from flask_chatstop.generation.usage import Usage, as_mapping, usage_of

_NOTHING: Mapping[str, object] = MappingProxyType({})


class Answer:
    """The text that was sent to the client, and what is known about it.

    ``text.add(piece)`` adds to the text, ``text.replace(text)`` begins anew, and
    ``str(text)`` returns it.
    """

    __slots__ = ("chunks", "conversation_id", "message_id", "reported", "text")

    def __init__(self) -> None:
        self.text = AnswerText()
        #: How many chunks were sent.
        self.chunks = 0
        self.message_id: str | None = None
        self.conversation_id: str | None = None
        #: The usage, as the source has reported it so far.
        self.reported = _NOTHING

    def report_usage(self, usage: object) -> None:
        """Add to the reported usage.

        :param usage: may be ``None``, as in most chunks of a stream.
        :raises TypeError: it is neither a mapping nor has token figures.
        """
        if usage is None:
            return
        # In Anthropic's last event, what its first event has told may be None.
        told = {
            name: value
            for name, value in as_mapping(usage).items()
            if value is not None or name not in self.reported
        }
        self.reported = {**self.reported, **told}

    def usage(self, text: str) -> Usage:
        """Return the usage of an answer with this text."""
        return usage_of(self.reported, characters=len(text), chunks=self.chunks)

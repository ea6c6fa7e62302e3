"""The wire formats of the model providers, one module each.

Each has the ``PATH`` of its requests, the ``CONTENT_TYPE`` of its answers, and
``parts()``, which puts a whole answer around the tokens that it is given.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from tests.providers.formats import (
    anthropic_messages,
    bedrock_converse,
    google_generate_content,
    mistral_chat,
    ollama_chat,
    openai_chat,
    openai_responses,
    plain_text,
)


class Format(Protocol):
    """What a module here offers."""

    PATH: re.Pattern[str]
    CONTENT_TYPE: str

    def parts(
        self, body: dict[str, Any], tokens: Iterable[str], /
    ) -> Iterator[bytes]: ...


#: The first whose path matches answers.
FORMATS: list[Format] = [
    mistral_chat,
    openai_chat,
    openai_responses,
    anthropic_messages,
    google_generate_content,
    ollama_chat,
    bedrock_converse,
    plain_text,
]

"""Text as it comes, as from an app's own model server."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

PATH = re.compile(r"^/text$")
CONTENT_TYPE = "text/plain; charset=utf-8"


def parts(body: dict[str, Any], tokens: Iterable[str]) -> Iterator[bytes]:
    for token in tokens:
        yield token.encode()

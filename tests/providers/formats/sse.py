"""Server-sent events, which most of the formats are made of."""

import json

CONTENT_TYPE = "text/event-stream; charset=utf-8"


def event(payload: object, name: str | None = None) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(payload)}\n\n".encode()

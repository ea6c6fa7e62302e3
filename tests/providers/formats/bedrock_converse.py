"""Bedrock's ConverseStream, in the binary event streams of AWS.

See https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html
and https://smithy.io/2.0/aws/amazon-eventstream.html for the encoding.
"""

import json
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

PATH = re.compile(r"^/model/[^/]+/converse-stream$")
CONTENT_TYPE = "application/vnd.amazon.eventstream"

_STRING = 7


def parts(body: dict[str, Any], tokens: Iterable[str]) -> Iterator[bytes]:
    yield _event("messageStart", role="assistant")
    for token in tokens:
        yield _event("contentBlockDelta", contentBlockIndex=0, delta={"text": token})
    yield _event("contentBlockStop", contentBlockIndex=0)
    yield _event("messageStop", stopReason="end_turn")
    usage = {"inputTokens": 1, "outputTokens": 3, "totalTokens": 4}
    yield _event("metadata", usage=usage, metrics={"latencyMs": 1})


def _event(kind: str, **payload: object) -> bytes:
    headers = b"".join(
        [
            _header(":event-type", kind),
            _header(":content-type", "application/json"),
            _header(":message-type", "event"),
        ]
    )
    data = json.dumps(payload).encode()
    # The two lengths and their checksum, then the rest and the checksum of it all.
    total = 12 + len(headers) + len(data) + 4
    prelude = struct.pack(">II", total, len(headers))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + data
    return message + struct.pack(">I", zlib.crc32(message))


def _header(name: str, value: str) -> bytes:
    head = struct.pack(">B", len(name)) + name.encode()
    return head + struct.pack(">BH", _STRING, len(value)) + value.encode()

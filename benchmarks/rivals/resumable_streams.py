"""Stops of the app of fastapi-resumable-stream, under two uvicorns."""

import math
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from benchmarks.support.provider import Provider
from benchmarks.support.stops import LIMIT, Connection, Effects, wait_at_random
from tests.support.servers.others import serving

_APP = "benchmarks.rivals.resumable_app:create_app"
_UVICORN = (sys.executable, "-m", "uvicorn", "--factory", _APP, "--port", "{port}")
#: Seconds after the first piece in which a stop comes: for some polls of the stream.
_SPREAD = 1.0


class ResumableStreams:
    """Stops conversations at another server than the one that streams."""

    def __init__(self, urls: list[str]) -> None:
        self._urls = urls

    def stop(self, provider: Provider, model: str) -> Effects:
        """Stop a conversation after its first piece, at a random moment."""
        call, chat = provider.call(model), f"/chat/{uuid.uuid4().hex}"
        streams, stops = map(Connection, self._urls)
        with (
            closing(streams.socket),
            closing(stops.socket),
            ThreadPoolExecutor(1) as pool,
        ):
            streams.send(f"{chat}/stream?prompt={quote(call.url)}")
            streams.until(b"piece")
            wait_at_random(_SPREAD)
            sent = time.monotonic()
            stops.send(f"{chat}/stop")
            closed = pool.submit(call.closed_by, sent + LIMIT)
            # It ends at the latest when the provider hangs up.
            streams.until(b"\r\n0\r\n\r\n")
            last_byte = time.monotonic() - sent
            stops.until(b'{"stopped":true}')
            return Effects(
                last_byte if last_byte <= LIMIT else math.inf, closed.result() - sent
            )


@contextmanager
def resumable_streams(url: str) -> Iterator[ResumableStreams]:
    """Run the servers for the length of a with block."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = [
            stack.enter_context(serving(folder, *_UVICORN, RESUMABLE_STREAM_REDIS=url))
            for _ in range(2)
        ]
        yield ResumableStreams([server.url for server in servers])

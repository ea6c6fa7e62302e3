"""A bare asyncio server whose stop cancels the task that reads the answer.

The floor of a stop of an async source: no Flask, no gunicorn, no thread, no store.
"""

import asyncio
import json
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection as Pipe

from benchmarks.apps.async_sources import async_client, async_pieces

_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_DONE = b'HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{"result":"success"}'


class _Server:
    """Streams one answer at a time."""

    def __init__(self) -> None:
        self._client = async_client()
        self._task: asyncio.Task[None] | None = None

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer the requests of one connection."""
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            body = json.loads(await reader.readexactly(length))
            if "provider" in body:
                self._task = asyncio.create_task(self._stream(body["provider"], writer))
            else:
                assert self._task is not None
                self._task.cancel()
                writer.write(_DONE)

    async def _stream(self, provider: str, writer: asyncio.StreamWriter) -> None:
        writer.write(_HEAD)
        try:
            async for piece in async_pieces(self._client, provider):
                text = json.dumps({"answer": piece}).encode()
                writer.write(b"%x\r\n%s\r\n" % (len(text), text))
        finally:
            writer.write(b"0\r\n\r\n")


def _run(pipe: Pipe) -> None:
    async def run() -> None:
        server = await asyncio.start_server(_Server().serve, "127.0.0.1", 0)
        pipe.send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await server.serve_forever()

    asyncio.run(run())


@contextmanager
def bare_server() -> Iterator[str]:
    """Run the server in a process of its own, and give its URL."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_run, args=(theirs,), daemon=True
    )
    process.start()
    try:
        yield ours.recv()
    finally:
        process.kill()
        process.join()

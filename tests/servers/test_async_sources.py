"""Async sources under real servers: preloaded, ended by a signal, and very many."""

import json
import re
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from flask_chatstop.testing import wait_until
from tests.support.servers.gunicorn import AUTH, Reader, Server, gunicorn

APP = "tests.support.async_app:create_app()"
# A worker that is done ends at once. One on a busy machine is not to be killed.
GRACE = ["--graceful-timeout", "20"]
WORKERS = {
    "gthread": ["-k", "gthread", "--threads", "8", *GRACE],
    "gevent": ["-k", "gevent", *GRACE],
}
#: What an exit writes that has left something behind.
BAD_WORDS = [
    "Traceback",
    "Exception ignored",
    "was destroyed",
    "was never awaited",
    "unclosed event loop",
    "unclosed transport",
]


def end(server: Server) -> str:
    """End a server as a process manager does, and give what it has written."""
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(30) == 0
    log = server.log.read_text()
    assert not [word for word in BAD_WORDS if word in log], log
    return log


@pytest.mark.parametrize("worker", WORKERS)
def test_a_worker_streams_beside_a_source_that_its_master_began(
    worker: str, tmp_path: Path
) -> None:
    options = [*WORKERS[worker], "--preload"]
    with gunicorn(APP, tmp_path, *options, FLASK_STREAMS_IN_MASTER="1") as server:
        readers = [Reader(server) for _ in range(5)]
        task_ids = [reader.until("One ") for reader in readers]
        [pid] = server.workers()
        tick = f"tick by {server.process.pid}\n"
        before = server.log.read_text().count(tick)
        for task_id in task_ids:
            server.stop(task_id)
        for reader in readers:
            assert reader.rest()[-1]["metadata"]["end_reason"] == "stopped"
        wait_until(lambda: server.log.read_text().count(f"saved by {pid}\n") == 5)
        wait_until(lambda: server.log.read_text().count(tick) > before)
        log = end(server)
        assert f"tick by {pid}\n" not in log
        assert f"ended by {server.process.pid}\n" in log
        assert log.count("ended by") == 1


@pytest.mark.parametrize("worker", WORKERS)
def test_cleanups_that_go_on_when_their_worker_ends_are_saved(
    worker: str, tmp_path: Path
) -> None:
    environ = {"PYTHONWARNINGS": "default"}
    with gunicorn(APP, tmp_path, *WORKERS[worker], **environ) as server:
        readers = [Reader(server) for _ in range(6)]
        task_ids = [reader.until("One ") for reader in readers]
        for reader, task_id in zip(readers[:3], task_ids[:3], strict=True):
            server.stop(task_id)
            reader.rest()
        server.process.send_signal(signal.SIGTERM)
        for reader in readers[3:]:
            reader.close_tab()
        assert end(server).count("saved by") == 6


def test_1000_async_streams_of_one_gevent_worker_are_all_stopped(
    tmp_path: Path,
) -> None:
    options = [*WORKERS["gevent"], "--worker-connections", "2000"]
    with (
        gunicorn(APP, tmp_path, *options, FLASK_HEARTBEAT="60") as server,
        ExitStack() as stack,
        httpx.Client(base_url=server.url, headers=AUTH, timeout=120) as client,
    ):
        streams = [stack.enter_context(begin(server)) for _ in range(1_000)]
        task_ids = [read(stream, b"One ") for stream in streams]
        [pid] = server.workers()
        threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
        assert threads < 30
        for task_id in task_ids:
            client.post(f"/v1/chat-messages/{task_id}/stop", json={"user": "alice"})
        for stream in streams:
            read(stream, b'"end_reason":"stopped"')
        wait_until(lambda: server.log.read_text().count("saved by") == 1_000)


def begin(server: Server) -> socket.socket:
    """Ask for an answer without a thread that reads it."""
    address = httpx.URL(server.url)
    stream = socket.create_connection((address.host, address.port or 80), timeout=30)
    body = json.dumps({"user": "alice"})
    head = {
        "Host": "localhost",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **AUTH,
    }
    lines = [f"{name}: {value}" for name, value in head.items()]
    request = ["POST /v1/chat-messages HTTP/1.1", *lines, "", body]
    stream.sendall("\r\n".join(request).encode())
    return stream


def read(stream: socket.socket, until: bytes) -> str:
    """Read an answer up to some bytes, and give the task id."""
    received = b""
    while until not in received:
        data = stream.recv(65536)
        assert data, received
        received += data
    found = re.search(rb'"task_id":"([^"]+)"', received)
    assert found, received
    return found[1].decode()

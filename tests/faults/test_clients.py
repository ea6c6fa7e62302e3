"""Clients that read too slowly, or that vanish without a word."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from flask_chatstop.testing import wait_until
from tests.faults.deployment import Deployment, deployment
from tests.support.provider import Call
from tests.support.servers.gunicorn import Reader
from tests.support.servers.network import Network, network

WORKERS = {
    "gthread": ["-k", "gthread"],
    "gevent": ["-k", "gevent"],
    "sync": ["-k", "sync"],
}


class RawClient:
    """A client on a socket of ours that reads what it is told to."""

    def __init__(self, deployed: Deployment, then: str, sock: socket.socket) -> None:
        where = urlsplit(deployed.server.url)
        deployed.model.then = then
        number = len(deployed.model.calls)
        sock.settimeout(20)
        sock.connect((where.hostname, where.port))
        body = json.dumps({"user": "alice"})
        lines = ["POST /v1/chat-messages HTTP/1.1", "Host: x"]
        lines += ["Authorization: Bearer demo-key", "Content-Type: application/json"]
        lines += [f"Content-Length: {len(body)}", "", body]
        sock.sendall("\r\n".join(lines).encode())
        self.sock = sock
        self._deployment = deployed
        self.task_id = self._read_id()
        wait_until(lambda: len(deployed.model.calls) > number)
        self.call: Call = deployed.model.calls[number]

    def outcome(self) -> str:
        """Stop it once more, and give what that was told."""
        response = self._deployment.server.stop(self.task_id)
        return str(response.headers["Chatstop-Outcome"])

    def reasons(self) -> list[str]:
        """Wait for its end, and give the reason of each that was reported."""
        wait_until(lambda: bool(self._deployment.ends(self.task_id)))
        return [reason for reason, _ in self._deployment.ends(self.task_id)]

    def _read_id(self) -> str:
        received = b""
        while b"\n\n" not in received.partition(b"data: ")[2]:
            received += self.sock.recv(1)
        event = received.partition(b"data: ")[2].partition(b"\n\n")[0]
        return str(json.loads(event)["task_id"])


@contextmanager
def reading_a_byte_a_second(client: RawClient) -> Iterator[None]:
    done = threading.Event()

    def read() -> None:
        with contextlib.suppress(OSError):
            while not done.wait(1.0):
                client.sock.recv(1)

    thread = threading.Thread(target=read)
    thread.start()
    yield
    done.set()
    thread.join()


@pytest.mark.parametrize("worker", ["gthread", "gevent"])
def test_a_client_that_reads_a_byte_a_second_can_still_stop(
    worker: str, sqlite_url: str, tmp_path: Path
) -> None:
    with (
        deployment(tmp_path / "deployment", sqlite_url, *WORKERS[worker]) as deployed,
        socket.socket() as sock,
    ):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client = RawClient(deployed, "flood", sock)
        with reading_a_byte_a_second(client):
            assert client.call.silent.wait(30), "the model never had to wait"
            assert deployed.server.stop(client.task_id).status_code == 200
            assert client.call.closed.wait(10)
            assert client.reasons() == ["stopped"]
        client.sock.close()
        wait_until(lambda: client.outcome() == "stopped")
        assert client.reasons() == ["stopped"]


@pytest.fixture
def other_host() -> Iterator[Network]:
    with network() as other_host:
        yield other_host


@pytest.mark.parametrize("worker", WORKERS)
def test_a_client_that_vanishes_ends_its_generation(
    worker: str, other_host: Network, sqlite_url: str, tmp_path: Path
) -> None:
    with (
        deployment(
            tmp_path / "deployment",
            sqlite_url,
            *WORKERS[worker],
            host=other_host.host,
            HEARTBEAT="0.5",
            FLASK_CHATSTOP_CLIENT_TIMEOUT="1",
        ) as deployed,
        other_host.socket() as talked_to,
        other_host.socket() as waiting,
    ):
        clients = [
            RawClient(deployed, "talk", talked_to),
            RawClient(deployed, "silence", waiting),
        ]
        other_host.cut()
        for client in clients:
            assert client.call.closed.wait(20), "the model goes on"
            assert client.reasons() == ["disconnected"]


@pytest.mark.parametrize("then", ["talk", "silence"])
def test_a_generation_whose_client_has_vanished_can_be_stopped(
    then: str, other_host: Network, sqlite_url: str, tmp_path: Path
) -> None:
    with (
        deployment(
            tmp_path / "deployment", sqlite_url, host=other_host.host
        ) as deployed,
        other_host.socket() as sock,
    ):
        client = RawClient(deployed, then, sock)
        other_host.cut()
        assert deployed.server.stop(client.task_id).status_code == 200
        assert client.call.closed.wait(10)
        assert client.reasons() == ["stopped"]


@pytest.mark.parametrize("kind", ["timeout", "kill"])
def test_what_interrupts_a_greenlet_does_not_end_an_answer_that_continues(
    kind: str, sqlite_url: str, tmp_path: Path
) -> None:
    with deployment(
        tmp_path / "deployment", sqlite_url, *WORKERS["gevent"]
    ) as deployed:
        reader = Reader(deployed.server, body={"interrupts": kind})
        task_id = reader.next()["task_id"]
        events = reader.rest()
        assert [event["event"] for event in events] == ["message"] * len(events)
        wait_until(lambda: bool(deployed.ends(task_id)))
        assert deployed.ends(task_id) == [("finished", "0 1 2 3 4 5 6 7 8 9 ")]

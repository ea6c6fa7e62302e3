"""Many stops that wait: they must not take the threads of everybody else."""

import selectors
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from flask_chatstop.testing import wait_until
from flask_chatstop.worker.waiting import MAX_WAITING
from tests.faults.deployment import Chat, deployment

CROWD = 150
#: Seconds that each of them asks to wait.
WAIT = 10


def crowd(chat: Chat, stack: ExitStack) -> list[socket.socket]:
    """Have a crowd stop the chat and wait for its end."""
    where = urlsplit(chat.deployment.server.url)
    body = '{"user": "alice"}'
    lines = [f"POST /v1/chat-messages/{chat.task_id}/stop?wait={WAIT} HTTP/1.1"]
    lines += ["Host: x", "Authorization: Bearer demo-key", "Connection: close"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    request = "\r\n".join([*lines, "", body]).encode()
    clients = [
        stack.enter_context(socket.create_connection((where.hostname, where.port)))
        for _ in range(CROWD)
    ]
    for client in clients:
        client.sendall(request)
    return clients


def answers(clients: list[socket.socket], number: int) -> list[str]:
    """Wait for the first so many answers."""
    found: list[str] = []
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client, selectors.EVENT_READ)
        while len(found) < number:
            ready = selector.select(30)
            assert ready, "a stop was not answered"
            for key, _ in ready:
                client = cast(socket.socket, key.fileobj)
                found.append(client.recv(65536).decode())
                selector.unregister(client)
                client.close()  # the server waits for it
    return found


def test_stops_that_wait_leave_threads_for_the_stops_of_others(
    sqlite_url: str, tmp_path: Path
) -> None:
    with (
        deployment(tmp_path / "deployment", sqlite_url, "--workers", "1") as deployed,
        ExitStack() as stack,
    ):
        # Its end is never reported, so a stop of it waits for as long as it may.
        endless = deployed.ask(blocks="on_end")
        other = deployed.ask(user="bob")
        began = time.monotonic()
        clients = crowd(endless, stack)
        early = answers(clients, CROWD - MAX_WAITING)
        assert deployed.server.stop(other.task_id, "bob").status_code == 200
        assert time.monotonic() - began < WAIT - 1, "it had to wait for the crowd"
        assert other.call.closed.wait(5)
        for answer in early:
            assert answer.startswith("HTTP/1.1 200")
            assert "Chatstop-Outcome: stopping" in answer


def test_a_stop_after_the_end_says_so_at_once(sqlite_url: str, tmp_path: Path) -> None:
    with deployment(tmp_path / "deployment", sqlite_url) as deployed:
        for _ in range(24):
            chat = deployed.ask("end")
            assert chat.reader.rest()[-1]["event"] == "message_end"
            told = chat.stop_here().headers["Chatstop-Outcome"]
            assert told == "ended"
        chat = deployed.ask("end")
        chat.reader.rest()
        wait_until(
            lambda: chat.stop_elsewhere().headers["Chatstop-Outcome"] == "ended", 1
        )

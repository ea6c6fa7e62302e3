"""Stops that come at once, with each other and with the natural end."""

import selectors
import socket
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import pytest

from tests.faults.deployment import Chat, deployment
from tests.faults.stores import RingingStore

CROWD = 500


def stop_by_a_crowd(chat: Chat) -> Counter[tuple[str, str]]:
    """Connect a crowd, have each of them stop the chat, and count their answers."""
    where = urlsplit(chat.deployment.server.url)
    body = '{"user": "alice"}'
    lines = [f"POST /v1/chat-messages/{chat.task_id}/stop HTTP/1.1", "Host: x"]
    lines += ["Authorization: Bearer demo-key", "Content-Type: application/json"]
    lines += ["Connection: close", f"Content-Length: {len(body)}", "", body]
    request = "\r\n".join(lines).encode()
    received: dict[socket.socket, bytes] = {}
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(CROWD):
            client = socket.create_connection((where.hostname, where.port))
            received[stack.enter_context(client)] = b""
            selector.register(client, selectors.EVENT_READ)
        for client in received:
            client.sendall(request)
        while selector.get_map():
            ready = selector.select(30)
            assert ready, "a stop was not answered"
            for key, _ in ready:
                client = cast(socket.socket, key.fileobj)
                data = client.recv(65536)
                received[client] += data
                if not data:
                    selector.unregister(client)
                    client.close()
    return Counter(map(parsed, received.values()))


def parsed(answer: bytes) -> tuple[str, str]:
    """Give the status and the outcome."""
    status, *headers = answer.decode().partition("\r\n\r\n")[0].splitlines()
    named = dict(header.lower().split(": ", 1) for header in headers)
    return status.split()[1], named["chatstop-outcome"]


@pytest.mark.parametrize("then", ["talk", "silence"])
def test_of_500_stops_at_once_one_rings_and_one_end_is_reported(
    ringing_store: RingingStore, then: str, tmp_path: Path
) -> None:
    with deployment(
        tmp_path / "deployment",
        ringing_store.url,
        FLASK_CHATSTOP_OPERATION_TIMEOUT="20",
        FLASK_CHATSTOP_LEASE="20",
    ) as deployed:
        chat = deployed.ask(then)
        with ringing_store.rings(chat.task_id) as rings:
            answers = stop_by_a_crowd(chat)
            assert {status for status, _ in answers} == {"200"}
            assert {outcome for _, outcome in answers} <= {"stopping", "stopped"}
            assert answers.total() == CROWD
            assert chat.is_stopped()
            assert rings() == 1

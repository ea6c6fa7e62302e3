"""The time after which a client that acknowledges nothing has left."""

import socket
import sys
from collections.abc import Iterator

import pytest

from tests.support.chat import AUTH, Chat

SERVERS = ["gunicorn.socket", "werkzeug.socket"]


def ask_through(chat: Chat, server: str, connection: object) -> None:
    response = chat.client.post(
        "/v1/chat-messages",
        json={"user": "alice"},
        headers=AUTH,
        environ_overrides={server: connection},
    )
    assert response.data
    assert chat.tasks[0].end_reason == "finished"


@pytest.fixture
def connection() -> Iterator[socket.socket]:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()),
        server.accept()[0] as connection,
    ):
        yield connection


@pytest.mark.skipif(sys.platform != "linux", reason="needs TCP_USER_TIMEOUT")
@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(
    ("config", "milliseconds"),
    [
        ({}, 30_000),
        ({"CHATSTOP_CLIENT_TIMEOUT": 1.5}, 1_500),
        ({"CHATSTOP_CLIENT_TIMEOUT": 0.001}, 1),
        ({"CHATSTOP_CLIENT_TIMEOUT": 31_536_000}, 2**31 - 1),
    ],
)
def test_the_connection_of_a_started_task_gets_it(
    config: dict[str, object],
    milliseconds: int,
    server: str,
    connection: socket.socket,
) -> None:
    ask_through(Chat(config=config), server, connection)
    level, option = socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT
    assert connection.getsockopt(level, option) == milliseconds


@pytest.mark.parametrize("server", SERVERS)
def test_a_connection_that_cannot_have_it_is_left_alone(server: str) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        ask_through(Chat(), server, ours)
    ask_through(Chat(), server, object())
    ask_through(Chat(), server, type("Socket", (), {"setsockopt": lambda _: None})())

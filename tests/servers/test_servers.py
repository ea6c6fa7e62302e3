"""Stops under real servers, with the real openai client and a silent provider."""

import time
from pathlib import Path

import pytest

from flask_chatstop.testing import wait_until
from tests.support.provider import TOKENS, Provider
from tests.support.servers.gunicorn import Reader, gunicorn

WORKERS = {
    "gthread": ["-k", "gthread", "--threads", "8"],
    "gevent": ["-k", "gevent"],
    # Each has one thread, and is deaf while it streams: a stop needs another one.
    "sync": ["-k", "sync", "--workers", "2"],
}


@pytest.mark.parametrize("worker", WORKERS)
def test_a_stop_ends_the_stream_and_hangs_up_on_a_silent_provider(
    worker: str, silent: Provider, tmp_path: Path
) -> None:
    with gunicorn(
        "example_app:create_app()",
        tmp_path,
        *WORKERS[worker],
        OPENAI_BASE_URL=silent.url,
        OPENAI_API_KEY="any",
        FLASK_CHATSTOP_BACKEND=f"sqlite:///{tmp_path}/chatstop.db",
        FLASK_CHAT_DATABASE=f"{tmp_path}/chat.sqlite3",
    ) as server:
        reader = Reader(server)
        task_id = reader.until(TOKENS[-1])
        [call] = silent.calls
        assert call.silent.wait(30)

        begun = time.monotonic()
        response = server.stop(task_id)
        assert reader.over.wait(30)
        assert call.closed.wait(30)
        took = time.monotonic() - begun

        assert response.json() == {"result": "success"}
        assert response.headers["Chatstop-Outcome"] == "stopping"
        [end] = reader.rest()
        assert end["event"] == "message_end"
        assert end["metadata"]["end_reason"] == "stopped"
    log = server.log.read_text()
    assert "Traceback" not in log
    assert f"stopped: {''.join(TOKENS)}" in log
    print(f"{worker}: stopped and hung up within {1000 * took:.0f} ms")


@pytest.mark.parametrize("worker", WORKERS)
def test_a_closed_tab_hangs_up_on_a_silent_provider_within_two_heartbeats(
    worker: str, silent: Provider, tmp_path: Path
) -> None:
    heartbeat = 2.0
    with gunicorn(
        "tests.support.served_app:create_app()",
        tmp_path,
        *WORKERS[worker],
        OPENAI_BASE_URL=silent.url,
        HEARTBEAT=str(heartbeat),
        FLASK_CHATSTOP_BACKEND=f"sqlite:///{tmp_path}/chatstop.db",
    ) as server:
        reader = Reader(server)
        reader.until(TOKENS[-1])
        [call] = silent.calls
        assert call.silent.wait(30)
        begun = time.monotonic()
        reader.close_tab()
        assert call.closed.wait(30), "the provider still generates"
        took = time.monotonic() - begun
        # And a heartbeat more, for a busy machine.
        assert took < 3 * heartbeat
        end = f"disconnected: {''.join(TOKENS)}"
        wait_until(lambda: end in server.log.read_text())
    assert "Traceback" not in server.log.read_text()
    print(f"{worker}: hung up {took / heartbeat:.1f} heartbeats after the tab closed")

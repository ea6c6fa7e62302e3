"""What is said about a server that limits what a chat can do."""

import sys
from types import ModuleType

import pytest

from flask_chatstop import servers
from tests.support.chat import AUTH, Chat

ADAPTER = "behind an adapter from ASGI to WSGI"
NO_THREADS = "Set enable-threads"
BOTH = {"wsgi.multithread": True, "wsgi.multiprocess": True}


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_told", set())


def ask(environ: dict[str, object], times: int = 1) -> None:
    chat = Chat()
    for _ in range(times):
        response = chat.client.post(
            "/v1/chat-messages",
            json={"user": "alice"},
            headers=AUTH,
            environ_overrides=environ,
        )
        assert response.data


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({"asgi.scope": {}}, id="a2wsgi"),
        pytest.param(BOTH, id="hypercorn and asgiref"),
    ],
)
def test_an_adapter_from_asgi_is_warned_of_once(
    environ: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    ask(environ, times=2)
    assert caplog.text.count(ADAPTER) == 1


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({}, id="the client of tests"),
        pytest.param({**BOTH, "SERVER_SOFTWARE": "gunicorn/23"}, id="gunicorn"),
        pytest.param({**BOTH, "wsgi.file_wrapper": iter}, id="uWSGI"),
    ],
)
def test_other_servers_are_not_warned_of(
    environ: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    ask(environ)
    assert ADAPTER not in caplog.text and NO_THREADS not in caplog.text


@pytest.mark.parametrize(("has_threads", "count"), [(0, 1), (1, 0)])
def test_uwsgi_without_threads_is_warned_of_once(
    has_threads: int,
    count: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # What uWSGI before 2.0.27 has in its processes; .ci/long runs such a one.
    uwsgi = ModuleType("uwsgi")
    uwsgi.has_threads = has_threads  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
    ask({"uwsgi.version": b"2.0.22", "wsgi.file_wrapper": iter}, times=2)
    assert caplog.text.count(NO_THREADS) == count

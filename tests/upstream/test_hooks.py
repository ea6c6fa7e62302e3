"""Hooking into HTTP libraries: once, only where known, and undone."""

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import aiohttp
import httpcore
import httpcore2
import pytest
import urllib3

from flask_chatstop.upstream import aiohttp as aiohttp_hooks
from flask_chatstop.upstream import hooks
from flask_chatstop.upstream import httpcore as httpcore_hooks
from flask_chatstop.upstream import urllib3 as urllib3_hooks


@pytest.fixture(autouse=True)
def unhooked() -> Iterator[None]:
    hooks.uninstall()
    yield
    hooks.uninstall()


def hooked() -> list[Any]:
    """Return each function that a hook may replace, as it is now."""
    found = [threading.excepthook]
    for module in (httpcore, httpcore2):
        found += [getattr(o, name) for o, name, _ in httpcore_hooks.hooks(module)]
    found += [getattr(o, name) for o, name, _ in urllib3_hooks.hooks(urllib3)]
    found += [getattr(o, name) for o, name, _ in aiohttp_hooks.hooks(aiohttp)]
    return found


def test_hooks_are_put_in_once_and_can_be_taken_out_again() -> None:
    before = hooked()
    hooks.install()
    within = hooked()
    assert all(new is not old for new, old in zip(within, before, strict=True))
    hooks.install()
    assert hooked() == within
    hooks.uninstall()
    assert hooked() == before


@pytest.mark.parametrize(
    ("library", "owner", "method"),
    [
        ("aiohttp", aiohttp.BaseConnector, "connect"),
        ("httpcore", httpcore.ConnectionPool, "handle_request"),
        ("httpcore2", httpcore2.AsyncConnectionPool, "handle_async_request"),
        ("urllib3", urllib3.HTTPResponse, "_error_catcher"),
        ("urllib3", urllib3.HTTPConnectionPool, "_put_conn"),
    ],
)
def test_a_library_that_has_changed_is_left_alone_and_named_once(
    library: str,
    owner: Any,
    method: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    original = getattr(owner, method)

    def changed(self: Any, others: Any) -> Any:
        return original(self)

    monkeypatch.setattr(owner, method, changed)
    hooks.install()
    hooks.install()
    assert getattr(owner, method) is changed
    [record] = [r for r in caplog.records if "is not as known" in r.getMessage()]
    version = hooks.version_of(library)
    assert f"{library} {version} is" in record.getMessage()
    assert method in record.getMessage()
    assert record.levelno == logging.WARNING
    others = {"httpcore": httpcore, "httpcore2": httpcore2}
    others.pop(library, None)
    for module in others.values():
        assert hasattr(module.ConnectionPool.handle_request, "__wrapped__")


def test_a_library_that_a_mock_has_replaced_is_hooked_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as mock:
        mock.setattr(httpcore.ConnectionPool, "handle_request", lambda *a, **o: None)
        hooks.install()
        hooks.install()
        assert caplog.text.count("a mock replaces it") == 1
    hooks.install()
    assert hasattr(httpcore.ConnectionPool.handle_request, "__wrapped__")


# The shape that the hooks rely on, library by library: a failure here says that a new
# version has changed, and what.


@pytest.mark.parametrize("module", [httpcore, httpcore2])
def test_httpcore_is_as_known(module: Any) -> None:
    assert len(httpcore_hooks.hooks(module)) == 4


def test_aiohttp_is_as_known() -> None:
    assert len(aiohttp_hooks.hooks(aiohttp)) == 2


def test_urllib3_is_as_known() -> None:
    assert len(urllib3_hooks.hooks(urllib3)) == 5


_OFF = """
import sys, threading
import httpcore, urllib3
before = httpcore.ConnectionPool.handle_request, urllib3.HTTPResponse.close
hook = threading.excepthook
from flask import Flask
from flask_chatstop import ChatStop, chat_response
app = Flask("app")
app.config.update(CHATSTOP_API_KEYS=["key"], CHATSTOP_TRACK_CALLS={tracks})
chatstop = ChatStop()
app.register_blueprint(chatstop)

@app.post("/ask")
@chatstop.login_required
def ask():
    task = chatstop.start(user="alice")
    with task:
        task.bind(print)
    return chat_response(task, ["One"])

app.test_client().post("/ask", headers={{"Authorization": "Bearer key"}}).get_data()
after = httpcore.ConnectionPool.handle_request, urllib3.HTTPResponse.close
assert (before == after and hook == threading.excepthook) is not {tracks}
"""


@pytest.mark.parametrize("tracks", [True, False])
def test_nothing_is_hooked_in_an_app_that_does_not_track_calls(tracks: bool) -> None:
    subprocess.run(
        [sys.executable, "-c", _OFF.format(tracks=tracks)], check=True, timeout=60
    )


_LATE = """
import sys
from flask import Flask
from flask_chatstop import ChatStop, chat_response
app = Flask("app")
app.config.update(CHATSTOP_API_KEYS=["key"])
chatstop = ChatStop()
app.register_blueprint(chatstop)
assert not {"aiohttp", "httpcore", "httpcore2", "urllib3"} & set(sys.modules)

@app.post("/ask")
@chatstop.login_required
def ask():
    return chat_response(chatstop.start(user="alice"), ["One"])

app.test_client().post("/ask", headers={"Authorization": "Bearer key"}).get_data()
import aiohttp, httpcore, urllib3
assert hasattr(aiohttp.BaseConnector.connect, "__wrapped__")
assert hasattr(httpcore.ConnectionPool.handle_request, "__wrapped__")
assert hasattr(urllib3.HTTPResponse.close, "__wrapped__")
"""


def test_a_library_that_is_imported_after_the_first_stream_is_hooked_too() -> None:
    subprocess.run([sys.executable, "-c", _LATE], check=True, timeout=60)

"""The site that the clients talk to, and what they print of it."""

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.types import WSGIApplication

import pytest
from werkzeug.middleware.dispatcher import DispatcherMiddleware

import example_app
from tests.clients.site import KEYS, agent, model
from tests.support.paths import ROOT
from tests.support.servers.threaded import served

Run = Callable[..., Any]


@pytest.fixture(
    scope="module",
    autouse=True,  # the tests ask for the site by way of request.getfixturevalue()
    params=[None, "memory://"],
    ids=["without-ids", "with-ids"],
)
def events(request: pytest.FixtureRequest) -> str | None:
    """Return where answers are kept; then each event has an ``id:`` line."""
    url: str | None = request.param
    return url


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, events: str | None) -> Iterator[str]:
    """Serve the example, the agent and the model of the example, at one address."""
    is_over = threading.Event()
    folder = tmp_path_factory.mktemp("site")
    config = {
        "CHATSTOP_API_KEYS": KEYS,
        "CHATSTOP_BACKEND": "memory",
        "CHATSTOP_EVENTS": events,
        "CHAT_DATABASE": folder / "chat.db",
    }
    example: Any = example_app.create_app(config)
    others: dict[str, WSGIApplication] = {
        "/agent": agent(events),
        "/model": model(is_over),
    }
    example.wsgi_app = DispatcherMiddleware(example.wsgi_app, others)
    with (
        pytest.MonkeyPatch.context() as patch,
        served(example) as address,
    ):
        patch.setenv("OPENAI_BASE_URL", f"{address}/model")
        patch.setenv("OPENAI_API_KEY", "any")
        example_app.model_client.cache_clear()
        yield address
        example_app.model_client.cache_clear()
        is_over.set()


@pytest.fixture(scope="module")
def printed(site: str) -> Run:
    """Return what runs a program of this folder, and reads the JSON that it prints."""

    def run(*command: str) -> Any:
        program = subprocess.run(
            [*command, site],
            cwd=ROOT / "tests" / "clients",
            # A client must not go through a proxy to its own host.
            env={**os.environ, "NO_PROXY": "127.0.0.1"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert program.returncode == 0, program.stderr
        return json.loads(program.stdout)

    return run

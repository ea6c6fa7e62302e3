"""A stop ends what the source waits for, whatever library it asks the model by.

Each cell is a real client library, as its users write it, under a real gunicorn.
"""

import ssl
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.providers.conftest import StartSite
from tests.providers.environments import ENVIRONMENTS, Environment
from tests.providers.server import TOKENS, Provider, provider
from tests.providers.site import WORKERS, Site, read_until

#: One for each HTTP library, and each way to make its TLS context, below the others.
TLS = [
    "async_litellm_completion",
    "async_openai_chat",
    "boto3_converse",
    "httpx_text",
    "ollama_chat",
    "openai_chat",
    "requests_text",
]


class Cell(NamedTuple):
    """What a source runs on."""

    environment: Environment
    worker: str
    scheme: str
    library: str

    def __str__(self) -> str:
        name = self.environment.name.removeprefix("test-")
        return f"{name}-{self.worker}-{self.scheme}-{self.library}"


CELLS = [
    Cell(environment, worker, scheme, library)
    for environment in ENVIRONMENTS
    for worker in WORKERS
    for scheme in ("http", "https")
    for library in environment.libraries()
    if scheme == "http" or library in TLS
]

parametrize_cells = pytest.mark.parametrize("cell", CELLS, ids=str)


@pytest.fixture
def running(cell: Cell, start_site: StartSite) -> Site:
    return start_site(cell.environment, cell.worker)


@pytest.fixture
def upstream(
    cell: Cell, mode: str, tls: ssl.SSLContext, running: Site
) -> Iterator[Provider]:
    with provider(mode, tls if cell.scheme == "https" else None) as server:
        running.begin()
        yield server
    # What a failed test has left hanging is to be over before the next one begins.
    running.left()


@pytest.mark.parametrize("mode", ["ending"])
@parametrize_cells
def test_an_answer_that_ends_by_itself_is_whole(
    cell: Cell, mode: str, running: Site, upstream: Provider
) -> None:
    reader = running.ask(f"libraries.{cell.library}", upstream.url)
    events = reader.rest()
    assert "".join(event.get("answer", "") for event in events) == "".join(TOKENS)
    assert events[-1]["event"] == "message_end"
    assert events[-1]["metadata"]["end_reason"] == "finished"
    running.assert_nothing_is_left()


@pytest.mark.parametrize("mode", ["talking", "silent", "no-headers"])
@parametrize_cells
def test_a_stop_ends_every_connection_of_the_source(
    cell: Cell, mode: str, running: Site, upstream: Provider
) -> None:
    reader = running.ask(f"libraries.{cell.library}", upstream.url)
    task_id = reader.next()["task_id"]
    upstream.wait_until_settled()
    if mode == "silent":
        # What it waits for now does not come.
        read_until(reader, "".join(TOKENS))
    if mode == "talking":
        read_until(reader, "more ")
    calls = list(upstream.calls)

    response = running.server.stop(task_id)
    end = reader.rest()[-1]

    assert response.headers["Chatstop-Outcome"] == "stopping"
    assert end["event"] == "message_end"
    assert end["metadata"]["end_reason"] == "stopped"
    still_open = [call for call in calls if not call.closed.wait(30)]
    assert not still_open, "the provider still generates"
    running.assert_nothing_is_left()
    assert upstream.calls == calls, "the model was asked again"

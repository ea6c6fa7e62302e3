"""Many async streams share the connections of one client, and stops keep them apart."""

from collections.abc import Iterator

import pytest

from flask_chatstop.testing import wait_until
from tests.providers.conftest import StartSite
from tests.providers.environments import ENVIRONMENTS
from tests.providers.server import TOKENS, Provider, provider
from tests.providers.site import WORKERS, Site, read_until

STREAMS = 10
TEXT = "".join(TOKENS)


@pytest.fixture(params=WORKERS)
def running(request: pytest.FixtureRequest, start_site: StartSite) -> Site:
    return start_site(ENVIRONMENTS[0], request.param)


@pytest.fixture
def upstream(running: Site) -> Iterator[Provider]:
    with provider("silent") as server:
        running.begin()
        yield server
    running.left()


def closed(upstream: Provider) -> int:
    return sum(call.closed.is_set() for call in upstream.calls)


# litellm keeps one client for the process, on aiohttp.
@pytest.mark.parametrize("library", ["async_openai_shared", "async_litellm_completion"])
def test_a_stop_leaves_the_other_streams_of_a_shared_client_alone(
    library: str, running: Site, upstream: Provider
) -> None:
    module = f"libraries.{library}"
    readers = [running.ask(module, upstream.url) for _ in range(STREAMS)]
    task_ids = [reader.next()["task_id"] for reader in readers]
    for reader in readers:
        read_until(reader, TEXT)

    for task_id in task_ids[::2]:
        running.server.stop(task_id)
    stopped = [reader.rest()[-1]["metadata"]["end_reason"] for reader in readers[::2]]
    assert stopped == ["stopped"] * len(stopped)
    wait_until(lambda: closed(upstream) == len(stopped))

    upstream.go_on.set()
    finished = [reader.rest()[-1]["metadata"]["end_reason"] for reader in readers[1::2]]
    assert finished == ["finished"] * len(finished)

    # Some of these use the connections that the finished ones have left.
    for reader in [running.ask(module, upstream.url) for _ in range(STREAMS)]:
        answer = "".join(event.get("answer", "") for event in reader.rest())
        assert answer == TEXT
    assert len(upstream.calls) == 2 * STREAMS
    running.assert_nothing_is_left()

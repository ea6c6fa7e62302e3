"""``hang_up()`` knows the wrappers of libraries whose calls are not tracked."""

import os
import subprocess

import pytest

from tests.providers.environments import ENVIRONMENTS
from tests.providers.server import provider
from tests.providers.site import OFFLINE
from tests.support.paths import ROOT

# By library: where it asks, and how it is asked.
_OPENED = {
    "litellm": (
        "/v1/chat/completions",
        """
import litellm
upstream = litellm.completion(
    model="openai/loopback", api_base=f"{url}/v1", api_key="any", stream=True,
    messages=[{"role": "user", "content": "hello"}],
)
next(upstream)
""",
    ),
    "boto3": (
        "/model/loopback/converse-stream",
        """
import boto3
client = boto3.client("bedrock-runtime", endpoint_url=url)
upstream = client.converse_stream(
    modelId="loopback", messages=[{"role": "user", "content": [{"text": "hello"}]}]
)["stream"]
""",
    ),
}
_HANG_UP = """
import sys
from flask_chatstop import hang_up
url = sys.argv[1]
{opened}
assert hang_up(upstream) is True
input()
"""


@pytest.mark.parametrize("library", sorted(_OPENED))
def test_the_streams_of_a_library_are_hung_up_on(library: str) -> None:
    python = ENVIRONMENTS[0].python()
    path, opened = _OPENED[library]
    code = _HANG_UP.format(opened=opened)
    with (
        provider("silent") as upstream,
        subprocess.Popen(
            [python, "-c", code, upstream.url],
            cwd=ROOT,
            env={**os.environ, **OFFLINE},
            stdin=subprocess.PIPE,
        ) as process,
    ):
        call = upstream.wait_for_request(path)
        assert call.closed.wait(60)
        process.communicate(b"\n", timeout=60)
        assert process.returncode == 0

from collections.abc import Iterator
from functools import partial

import openai

from flask_chatstop import GenerationTask


def source(url: str, task: GenerationTask) -> Iterator[str]:
    """Ask for a response that OpenAI makes whether its client stays or not."""
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="any")
    for event in client.responses.create(
        model="loopback", input="hello", background=True, stream=True
    ):
        if event.type == "response.created":
            task.on_stop(partial(client.responses.cancel, event.response.id))
        if event.type == "response.output_text.delta":
            yield event.delta

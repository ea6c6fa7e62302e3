from collections.abc import Iterator

import anthropic


def source(url: str) -> Iterator[str]:
    client = anthropic.Anthropic(base_url=url, api_key="any")
    stream = client.messages.create(
        model="loopback",
        max_tokens=1000,
        messages=[{"role": "user", "content": "hello"}],
        stream=True,
    )
    for event in stream:
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            yield event.delta.text

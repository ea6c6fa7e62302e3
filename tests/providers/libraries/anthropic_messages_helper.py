from collections.abc import Iterator

import anthropic


def source(url: str) -> Iterator[str]:
    client = anthropic.Anthropic(base_url=url, api_key="any")
    with client.messages.stream(
        model="loopback",
        max_tokens=1000,
        messages=[{"role": "user", "content": "hello"}],
    ) as stream:
        yield from stream.text_stream

from collections.abc import Iterator

import openai


def source(url: str) -> Iterator[str]:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="any")
    with client.chat.completions.stream(
        model="loopback", messages=[{"role": "user", "content": "hello"}]
    ) as stream:
        for event in stream:
            if event.type == "content.delta":
                yield event.delta

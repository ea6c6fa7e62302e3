from collections.abc import Iterator

import openai


def source(url: str) -> Iterator[str | None]:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="any")
    stream = client.chat.completions.create(
        model="loopback",
        messages=[{"role": "user", "content": "hello"}],
        stream=True,
    )
    for chunk in stream:
        yield chunk.choices[0].delta.content

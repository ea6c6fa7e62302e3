from collections.abc import Iterator

import litellm


def source(url: str) -> Iterator[str | None]:
    stream = litellm.completion(
        model="openai/loopback",
        api_base=f"{url}/v1",
        api_key="any",
        messages=[{"role": "user", "content": "hello"}],
        stream=True,
    )
    for chunk in stream:
        yield chunk.choices[0].delta.content

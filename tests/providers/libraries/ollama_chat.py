from collections.abc import Iterator

import ollama


def source(url: str) -> Iterator[str | None]:
    client = ollama.Client(host=url)
    for part in client.chat(
        model="loopback", messages=[{"role": "user", "content": "hello"}], stream=True
    ):
        yield part.message.content

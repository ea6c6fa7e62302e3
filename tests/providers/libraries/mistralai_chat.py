from collections.abc import Iterator

from mistralai.client import Mistral


def source(url: str) -> Iterator[str]:
    client = Mistral(api_key="any", server_url=f"{url}/mistral")
    stream = client.chat.stream(
        model="loopback", messages=[{"role": "user", "content": "hello"}]
    )
    for event in stream:
        yield event.data.choices[0].delta.content

from collections.abc import Iterator

import openai
import requests


def source(url: str, saves: str) -> Iterator[str]:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="any")
    text = ""
    try:
        for chunk in client.chat.completions.create(
            model="loopback",
            messages=[{"role": "user", "content": "hello"}],
            stream=True,
        ):
            piece = chunk.choices[0].delta.content or ""
            text += piece
            yield piece
    finally:
        requests.post(saves, json={"text": text})

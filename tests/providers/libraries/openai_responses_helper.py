from collections.abc import Iterator

import openai


def source(url: str) -> Iterator[str]:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="any")
    with client.responses.stream(model="loopback", input="hello") as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                yield event.delta

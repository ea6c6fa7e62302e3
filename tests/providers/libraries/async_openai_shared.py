from collections.abc import AsyncIterator

import openai

CLIENT = openai.AsyncOpenAI(base_url="http://localhost", api_key="any")


async def source(url: str) -> AsyncIterator[str | None]:
    # Shares the connections of the module's client. Each test has another address.
    client = CLIENT.with_options(base_url=f"{url}/v1")
    stream = await client.chat.completions.create(
        model="loopback",
        messages=[{"role": "user", "content": "hello"}],
        stream=True,
    )
    async for chunk in stream:
        yield chunk.choices[0].delta.content

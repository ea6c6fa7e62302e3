from collections.abc import AsyncIterator

import openai


async def source(url: str) -> AsyncIterator[str | None]:
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any")
    stream = await client.chat.completions.create(
        model="loopback",
        messages=[{"role": "user", "content": "hello"}],
        stream=True,
    )
    async for chunk in stream:
        yield chunk.choices[0].delta.content

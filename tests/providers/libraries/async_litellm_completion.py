from collections.abc import AsyncIterator

import litellm


async def source(url: str) -> AsyncIterator[str | None]:
    stream = await litellm.acompletion(
        model="openai/loopback",
        api_base=f"{url}/v1",
        api_key="any",
        messages=[{"role": "user", "content": "hello"}],
        stream=True,
    )
    async for chunk in stream:
        yield chunk.choices[0].delta.content

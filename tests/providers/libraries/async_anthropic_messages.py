from collections.abc import AsyncIterator

import anthropic


async def source(url: str) -> AsyncIterator[str]:
    client = anthropic.AsyncAnthropic(base_url=url, api_key="any")
    stream = await client.messages.create(
        model="loopback",
        max_tokens=1000,
        messages=[{"role": "user", "content": "hello"}],
        stream=True,
    )
    async for event in stream:
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            yield event.delta.text

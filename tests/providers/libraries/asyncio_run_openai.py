import asyncio
from collections.abc import AsyncIterator, Iterator

import openai


async def ask(url: str) -> AsyncIterator[str]:
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any")
    stream = await client.chat.completions.create(
        model="loopback",
        messages=[{"role": "user", "content": "hello"}],
        stream=True,
    )
    async for chunk in stream:
        yield chunk.choices[0].delta.content or ""


async def _next(pieces: AsyncIterator[str]) -> str | None:
    return await anext(pieces, None)


def source(url: str) -> Iterator[str]:
    with asyncio.Runner() as runner:
        pieces = ask(url)
        while (piece := runner.run(_next(pieces))) is not None:
            yield piece

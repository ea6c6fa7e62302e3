import asyncio
from collections.abc import AsyncGenerator, Iterator

import openai


async def ask(url: str) -> AsyncGenerator[str, None]:
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any")
    stream = await client.chat.completions.create(
        model="loopback",
        messages=[{"role": "user", "content": "hello"}],
        stream=True,
    )
    async with stream:
        async for chunk in stream:
            yield chunk.choices[0].delta.content or ""


async def _next(pieces: AsyncGenerator[str, None]) -> str | None:
    return await anext(pieces, None)


async def _close(pieces: AsyncGenerator[str, None]) -> None:
    await pieces.aclose()


def source(url: str) -> Iterator[str]:
    with asyncio.Runner() as runner:
        pieces = ask(url)
        try:
            while (piece := runner.run(_next(pieces))) is not None:
                yield piece
        finally:
            runner.run(_close(pieces))

from collections.abc import AsyncIterator

import aiohttp


async def source(url: str) -> AsyncIterator[str]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/text", json={}) as response,
    ):
        async for part in response.content.iter_any():
            yield part.decode()

from collections.abc import AsyncIterator

from google import genai


async def source(url: str) -> AsyncIterator[str | None]:
    client = genai.Client(api_key="any", http_options={"base_url": url})
    async for chunk in await client.aio.models.generate_content_stream(
        model="loopback", contents="hello"
    ):
        yield chunk.text

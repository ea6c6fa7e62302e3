from collections.abc import AsyncIterator

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


async def source(url: str) -> AsyncIterator[str]:
    provider = OpenAIProvider(base_url=f"{url}/v1", api_key="any")
    agent = Agent(OpenAIChatModel("loopback", provider=provider))
    async with agent.run_stream("hello") as result:
        async for text in result.stream_text(delta=True):
            yield text

from collections.abc import Iterator

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


def source(url: str) -> Iterator[str]:
    provider = OpenAIProvider(base_url=f"{url}/v1", api_key="any")
    agent = Agent(OpenAIChatModel("loopback", provider=provider))
    result = agent.run_stream_sync("hello")
    yield from result.stream_text(delta=True)

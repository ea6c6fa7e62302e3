from collections.abc import AsyncIterator

from langchain.agents import create_agent
from langchain_core.messages import AIMessageChunk
from langchain_openai import ChatOpenAI


async def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"It is sunny in {city}."


async def source(url: str) -> AsyncIterator[str]:
    model = ChatOpenAI(model="loopback", base_url=f"{url}/v1", api_key="any")
    agent = create_agent(model, tools=[weather])
    question = {"role": "user", "content": "What is the weather in Paris?"}
    async for message, _ in agent.astream(
        {"messages": [question]}, stream_mode="messages"
    ):
        if isinstance(message, AIMessageChunk):
            yield message.text

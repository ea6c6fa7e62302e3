from collections.abc import Iterator

from langchain.agents import create_agent
from langchain_core.messages import AIMessageChunk
from langchain_openai import ChatOpenAI


def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"It is sunny in {city}."


def source(url: str) -> Iterator[str]:
    model = ChatOpenAI(model="loopback", base_url=f"{url}/v1", api_key="any")
    agent = create_agent(model, tools=[weather])
    question = {"role": "user", "content": "What is the weather in Paris?"}
    for message, _ in agent.stream({"messages": [question]}, stream_mode="messages"):
        if isinstance(message, AIMessageChunk):
            yield message.text

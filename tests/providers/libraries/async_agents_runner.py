from collections.abc import AsyncIterator

import openai
from agents import Agent, OpenAIChatCompletionsModel, Runner


async def source(url: str) -> AsyncIterator[str]:
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any")
    model = OpenAIChatCompletionsModel("loopback", openai_client=client)
    result = Runner.run_streamed(Agent(name="greeter", model=model), "hello")
    async for event in result.stream_events():
        if (
            event.type == "raw_response_event"
            and event.data.type == "response.output_text.delta"
        ):
            yield event.data.delta

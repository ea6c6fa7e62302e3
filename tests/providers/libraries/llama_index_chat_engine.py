from collections.abc import Iterator

from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.llms.openai import OpenAI


def source(url: str) -> Iterator[str]:
    llm = OpenAI(model="gpt-4o-mini", api_base=f"{url}/v1", api_key="any")
    engine = SimpleChatEngine.from_defaults(llm=llm)
    yield from engine.stream_chat("hello").response_gen

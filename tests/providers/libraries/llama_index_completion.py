from collections.abc import Iterator

from llama_index.llms.openai import OpenAI


def source(url: str) -> Iterator[str | None]:
    llm = OpenAI(model="gpt-4o-mini", api_base=f"{url}/v1", api_key="any")
    for response in llm.stream_complete("hello"):
        yield response.delta

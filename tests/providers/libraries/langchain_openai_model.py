from collections.abc import Iterator

from langchain_openai import ChatOpenAI


def source(url: str) -> Iterator[str]:
    model = ChatOpenAI(model="loopback", base_url=f"{url}/v1", api_key="any")
    for chunk in model.stream("hello"):
        yield chunk.text

from collections.abc import Iterator

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI


def source(url: str) -> Iterator[str]:
    model = ChatOpenAI(model="loopback", base_url=f"{url}/v1", api_key="any")
    prompt = ChatPromptTemplate.from_template("{question}")
    chain = prompt | model | StrOutputParser()
    yield from chain.stream({"question": "hello"})

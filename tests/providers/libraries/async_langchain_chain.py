from collections.abc import AsyncIterator

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI


def source(url: str) -> AsyncIterator[str]:
    model = ChatOpenAI(model="loopback", base_url=f"{url}/v1", api_key="any")
    prompt = ChatPromptTemplate.from_template("{question}")
    chain = prompt | model | StrOutputParser()
    pieces: AsyncIterator[str] = chain.astream({"question": "hello"})
    return pieces

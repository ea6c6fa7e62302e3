from collections.abc import AsyncIterator
from typing import Any

from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph


async def source(url: str) -> AsyncIterator[str]:
    model = ChatOpenAI(model="loopback", base_url=f"{url}/v1", api_key="any")

    async def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    question = {"role": "user", "content": "hello"}
    async for message, _ in graph.compile().astream(
        {"messages": [question]}, stream_mode="messages"
    ):
        yield message.text

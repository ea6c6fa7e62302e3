from collections.abc import Iterator
from typing import Any

from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph


def source(url: str) -> Iterator[str]:
    model = ChatOpenAI(model="loopback", base_url=f"{url}/v1", api_key="any")

    def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    question = {"role": "user", "content": "hello"}
    for message, _ in graph.compile().stream(
        {"messages": [question]}, stream_mode="messages"
    ):
        yield message.text

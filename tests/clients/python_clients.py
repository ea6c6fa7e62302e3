"""Talks to the site through dify-oapi2 and dify-client-python; prints what they got.

Run by the Python of .venv-test-dify::

    python python_clients.py ADDRESS
"""

import json
import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from dify_client import Client, errors, models
from dify_oapi.api.chat.v1.model.agent_thought import AgentThought
from dify_oapi.api.chat.v1.model.chat_request import ChatRequest
from dify_oapi.api.chat.v1.model.chat_request_body import ChatRequestBody
from dify_oapi.api.chat.v1.model.chat_response import ChatResponseMetadata
from dify_oapi.api.chat.v1.model.message_file import MessageFile
from dify_oapi.api.chat.v1.model.stop_chat_request import StopChatRequest
from dify_oapi.api.chat.v1.model.stop_chat_request_body import StopChatRequestBody
from dify_oapi.client import Client as OapiClient
from dify_oapi.core.model.request_option import RequestOption

USER = "abc-123"
OPTION = RequestOption.builder().api_key("demo-key").build()


class ViaOapi2:
    """What an app does with dify-oapi2, which gives a stream as bytes."""

    name = "dify-oapi2"

    def __init__(self, address: str) -> None:
        self._client = OapiClient.builder().domain(address).build()

    def stream(self, query: str) -> Iterator[dict[str, Any]]:
        buffer = b""
        chat = self._client.chat.v1.chat
        for piece in chat.chat(self._request(query), OPTION, True):
            *lines, buffer = (buffer + piece).split(b"\n")
            for line in lines:
                if line.startswith(b"data: "):
                    yield self._parse(json.loads(line[6:]))

    def blocking(self, query: str) -> dict[str, Any]:
        chat = self._client.chat.v1.chat
        return dump(chat.chat(self._request(query, "blocking"), OPTION, False))

    def stop(self, task_id: str, user: str = USER) -> object:
        body = StopChatRequestBody.builder().user(user).build()
        request = StopChatRequest.builder().task_id(task_id).request_body(body).build()
        answer = self._client.chat.v1.chat.stop(request, OPTION)
        return {"status": answer.raw.status_code, **dump(answer)}

    def _request(self, query: str, mode: str = "streaming") -> Any:
        body = ChatRequestBody.builder().query(query).inputs({}).user(USER)
        body = body.response_mode(mode).conversation_id("c-1").build()
        return ChatRequest.builder().request_body(body).build()

    def _parse(self, event: dict[str, Any]) -> dict[str, Any]:
        """Have the client's own models read what they know of, without conversions."""
        kinds = {"agent_thought": AgentThought, "message_file": MessageFile}
        if event["event"] in kinds:
            kind = kinds[event["event"]]
            return {**event, **kind.model_validate(event, strict=True).model_dump()}
        if event["event"] == "message_end":
            own = ChatResponseMetadata.model_validate(event["metadata"], strict=True)
            return {**event, "metadata": {**event["metadata"], **own.model_dump()}}
        return event


class ViaClientPython:
    """What an app does with dify-client-python, whose events are typed."""

    name = "dify-client-python"

    def __init__(self, address: str) -> None:
        self._client = Client(api_key="demo-key", api_base=f"{address}/v1")

    def stream(self, query: str) -> Iterator[dict[str, Any]]:
        for event in self._client.chat_messages(self._request(query, "streaming")):
            yield {"model": type(event).__name__, **dump(event)}

    def blocking(self, query: str) -> dict[str, Any]:
        return dump(self._client.chat_messages(self._request(query, "blocking")))

    def stop(self, task_id: str, user: str = USER) -> object:
        try:
            request = models.StopRequest(user=user)
            return dump(self._client.stop_chat_messages(task_id, request))
        except errors.DifyAPIError as error:
            return {"error": type(error).__name__, "code": error.code}

    def _request(self, query: str, mode: str) -> Any:
        return models.ChatRequest(
            query=query,
            user=USER,
            response_mode=models.ResponseMode(mode),
            conversation_id="c-1",
        )


def dump(model: Any) -> dict[str, Any]:
    found: dict[str, Any] = model.model_dump(mode="json", exclude={"raw"})
    return found


def through(kind: type[ViaOapi2] | type[ViaClientPython], address: str) -> object:
    """Return what a client gets to see, in every way that an answer goes."""
    client, agent = kind(address), kind(f"{address}/agent")
    stopped: dict[str, Any] = {"events": []}
    for event in client.stream("wait"):
        stopped["events"].append(event)
        if event.get("answer") == "two":
            stopped["foreign"] = client.stop(event["task_id"], "eve")
            stopped["stop"] = client.stop(event["task_id"])
    return {
        "version": version(kind.name),
        "stopped": stopped,
        "finished": list(client.stream("finish")),
        "failed": list(client.stream("fail")),
        "agent": list(agent.stream("chairs")),
        "blocking": client.blocking("finish"),
        "unknown": client.stop("unknown"),
    }


if __name__ == "__main__":
    kinds = (ViaOapi2, ViaClientPython)
    print(json.dumps({kind.name: through(kind, sys.argv[1]) for kind in kinds}))

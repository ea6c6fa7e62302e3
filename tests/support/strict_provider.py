"""A model provider that refuses a history as OpenAI's and Anthropic's do, with 400.

The rules are those of their error messages. Where servers of OpenAI's format differ,
the strictest is followed: Mistral's refuses an assistant's message without content.
"""

import json
import threading
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, request

from flask_chatstop.formats import sse_frame


class Refused(Exception):
    """The request is not valid."""


def require(condition: object, message: str) -> None:
    if not condition:
        raise Refused(message)


def check_openai(messages: list[dict[str, Any]]) -> None:
    """Refuse messages that OpenAI's chat completions refuse.

    :raises Refused:
    """
    open_calls: set[str] = set()
    for message in messages:
        role = message["role"]
        known = {"role", "content", "name", "tool_calls", "tool_call_id"}
        require(set(message) <= known, "Additional properties are not allowed.")
        if role == "tool":
            require(
                message["tool_call_id"] in open_calls,
                "messages with role 'tool' must be a response to a preceding message"
                " with 'tool_calls'.",
            )
            open_calls.remove(message["tool_call_id"])
            require(isinstance(message["content"], str), "No result.")
            continue
        require(
            not open_calls,
            "An assistant message with 'tool_calls' must be followed by tool messages"
            f" responding to each 'tool_call_id': {open_calls}",
        )
        calls = message.get("tool_calls")
        require(calls is None or calls, "[] is too short - 'messages.tool_calls'")
        require(role == "assistant" or not calls, "Only an assistant calls tools.")
        require(message.get("content") or calls, f"An empty {role} message.")
        for call in calls or ():
            require(isinstance(call["function"]["name"], str), "No name.")
            arguments = json.loads(call["function"]["arguments"])
            require(isinstance(arguments, dict), "Arguments that are no object.")
            open_calls.add(call["id"])
    require(not open_calls, f"No response to {open_calls}.")
    require(messages[-1]["role"] in ("user", "tool"), "Nothing to answer.")


def check_anthropic(messages: list[dict[str, Any]]) -> None:
    """Refuse messages that Anthropic's Messages API refuses.

    :raises Refused:
    """
    open_calls: set[str] = set()
    role = "assistant"
    for message in messages:
        require(message["role"] != role, f"roles must alternate: {role} twice.")
        role = message["role"]
        content = message["content"]
        require(content, "all messages must have non-empty content.")
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        for number, block in enumerate(content):
            if block["type"] == "tool_result":
                _check_result(block, content[:number], open_calls)
                continue
            require(
                role == "assistant" or not open_calls,
                "`tool_use` ids were found without `tool_result` blocks immediately"
                f" after: {open_calls}",
            )
            _check_block(block, role)
        require(role == "assistant" or not open_calls, f"No result of {open_calls}.")
        open_calls |= {b["id"] for b in content if b["type"] == "tool_use"}
        require(
            role == "user" or "thinking" not in content[-1]["type"],
            "The final block in an assistant message cannot be `thinking`.",
        )
    require(role == "user", "Nothing to answer.")


def _check_result(
    block: dict[str, Any], before: list[dict[str, Any]], open_calls: set[str]
) -> None:
    require(
        block["tool_use_id"] in open_calls,
        f"unexpected `tool_use_id` found in `tool_result` blocks: {block}",
    )
    open_calls.remove(block["tool_use_id"])
    require(
        all(other["type"] == "tool_result" for other in before),
        "`tool_result` blocks must come first.",
    )


def _check_block(block: dict[str, Any], role: str) -> None:
    match block["type"]:
        case "text":
            require(block["text"].strip(), "text must contain non-whitespace text.")
        case "tool_use":
            require(role == "assistant", "Only an assistant uses tools.")
            require(isinstance(block["input"], dict), "input: should be an object.")
        case "thinking":
            require(role == "assistant", "Only an assistant thinks.")
            require(block["signature"], "thinking.signature: Field required.")
        case kind:
            raise Refused(f"Unexpected {kind}.")


def strict_provider() -> tuple[Flask, threading.Event]:
    """Return the provider, and what lets it end the answers that it has begun.

    It says ``One`` and is silent until then; asked to be silent, it says nothing.
    """
    app = Flask("strict_provider")
    go_on = threading.Event()

    @app.post("/chat/completions")
    def complete() -> Response:
        messages = request.get_json()["messages"]
        check_openai(messages)

        def chunks() -> Iterator[bytes]:
            if messages[-1]["content"] == "Be silent.":
                go_on.wait(30)
            head = {"id": "gen-1", "object": "chat.completion.chunk", "created": 1}
            choice = {"index": 0, "delta": {"content": "One"}, "finish_reason": None}
            yield _frame({**head, "model": "any", "choices": [choice]})
            go_on.wait(30)
            usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
            yield _frame({**head, "model": "any", "choices": [], "usage": usage})
            yield b"data: [DONE]\n\n"

        return Response(chunks(), mimetype="text/event-stream")

    @app.post("/v1/messages")
    def messages() -> Response:
        check_anthropic(request.get_json()["messages"])

        def events() -> Iterator[bytes]:
            message: dict[str, object] = {"id": "msg_1", "type": "message"}
            message |= {"role": "assistant", "model": "any", "content": []}
            usage = {"input_tokens": 7, "output_tokens": 1}
            yield _frame(
                {"type": "message_start", "message": {**message, "usage": usage}}
            )
            block = {"type": "text", "text": ""}
            yield _frame(
                {"type": "content_block_start", "index": 0, "content_block": block}
            )
            delta: dict[str, object] = {"type": "text_delta", "text": "One"}
            yield _frame({"type": "content_block_delta", "index": 0, "delta": delta})
            go_on.wait(30)
            yield _frame({"type": "content_block_stop", "index": 0})
            delta = {"stop_reason": "end_turn", "stop_sequence": None}
            usage = {"output_tokens": 2}
            yield _frame({"type": "message_delta", "delta": delta, "usage": usage})
            yield _frame({"type": "message_stop"})

        return Response(events(), mimetype="text/event-stream")

    @app.errorhandler(Refused)
    def refuse(error: Refused) -> tuple[dict[str, object], int]:
        body = {"type": "invalid_request_error", "message": str(error)}
        return {"type": "error", "error": body}, 400

    return app, go_on


def _frame(event: dict[str, Any]) -> bytes:
    return sse_frame(json.dumps(event), event.get("type"))

"""How an answer reads on the wire: one module for each format.

Give one to ``stream_response``, made anew for each answer::

    stream_response(task, chunks, format=ServerSentEvents())
"""

from flask_chatstop.formats.base import StreamFormat, json_text, sse_frame
from flask_chatstop.formats.dify import DifyEvents
from flask_chatstop.formats.dify_usage import dify_usage
from flask_chatstop.formats.json_lines import JSONLines
from flask_chatstop.formats.openai import OpenAIChunks
from flask_chatstop.formats.plain_text import PlainText
from flask_chatstop.formats.server_sent_events import ServerSentEvents
from flask_chatstop.formats.ui_message import UIMessageStream
from flask_chatstop.generation.answer import Answer

__all__ = [
    "Answer",
    "DifyEvents",
    "JSONLines",
    "OpenAIChunks",
    "PlainText",
    "ServerSentEvents",
    "StreamFormat",
    "UIMessageStream",
    "dify_usage",
    "json_text",
    "sse_frame",
]

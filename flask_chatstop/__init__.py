"""A stop button that really stops, for Flask apps with a chat in them."""

from flask_chatstop.backends import (
    EndReason,
    MemoryBackend,
    Owner,
    StopBackend,
    StopOutcome,
    TaskInfo,
    TaskRecord,
    backend_from_url,
)
from flask_chatstop.blueprint import ChatStop
from flask_chatstop.errors import (
    BackendError,
    ChatStopError,
    ConfigurationError,
    InvalidParam,
    TaskExists,
    TaskStopped,
)
from flask_chatstop.events import chat_response
from flask_chatstop.keys import Authenticator
from flask_chatstop.signals import stop_requested, task_ended, task_started
from flask_chatstop.streaming import ChunkStream
from flask_chatstop.tasks import GenerationEnd, GenerationTask
from flask_chatstop.upstream import hang_up

__all__ = [
    "Authenticator",
    "BackendError",
    "ChatStop",
    "ChatStopError",
    "ChunkStream",
    "ConfigurationError",
    "EndReason",
    "GenerationEnd",
    "GenerationTask",
    "InvalidParam",
    "MemoryBackend",
    "Owner",
    "StopBackend",
    "StopOutcome",
    "TaskExists",
    "TaskInfo",
    "TaskRecord",
    "TaskStopped",
    "backend_from_url",
    "chat_response",
    "hang_up",
    "stop_requested",
    "task_ended",
    "task_started",
]

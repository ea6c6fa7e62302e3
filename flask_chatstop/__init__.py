"""A stop button that really stops, for Flask apps with a chat in them."""

from types import FunctionType

from flask_chatstop.backends import (
    EndReason,
    MemoryBackend,
    Owner,
    SimpleBackend,
    StopBackend,
    StopOutcome,
    TaskEntry,
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
    NotLoggedIn,
    RecordRefused,
    SourceStopped,
    TaskExists,
)
from flask_chatstop.generation.current import current_task
from flask_chatstop.generation.end import GenerationEnd
from flask_chatstop.generation.stream import ChunkStream
from flask_chatstop.generation.task import GenerationTask, TaskStopped
from flask_chatstop.generation.usage import Usage
from flask_chatstop.response import chat_response, stream_response
from flask_chatstop.route.auth import Authenticator
from flask_chatstop.route.sessions import FlaskLoginAuth, SessionAuth, SingleUserAuth
from flask_chatstop.signals import stop_requested, task_ended, task_started
from flask_chatstop.upstream.hang_up import hang_up

__all__ = [
    "Authenticator",
    "BackendError",
    "ChatStop",
    "ChatStopError",
    "ChunkStream",
    "ConfigurationError",
    "EndReason",
    "FlaskLoginAuth",
    "GenerationEnd",
    "GenerationTask",
    "InvalidParam",
    "MemoryBackend",
    "NotLoggedIn",
    "Owner",
    "RecordRefused",
    "SessionAuth",
    "SimpleBackend",
    "SingleUserAuth",
    "SourceStopped",
    "StopBackend",
    "StopOutcome",
    "TaskEntry",
    "TaskExists",
    "TaskInfo",
    "TaskRecord",
    "TaskStopped",
    "Usage",
    "backend_from_url",
    "chat_response",
    "current_task",
    "hang_up",
    "stop_requested",
    "stream_response",
    "task_ended",
    "task_started",
]

# Tracebacks, repr() and the documentation name the path that users import from.
for _name in __all__:
    if isinstance(_value := globals()[_name], type | FunctionType):
        _value.__module__ = __name__

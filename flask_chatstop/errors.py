"""The errors of flask_chatstop.

::

    ChatStopError
    ├── ConfigurationError   what is wrong with the configuration, and what to set
    ├── BackendError         the store did not do what it was asked to
    ├── InvalidParam         a user or task id that cannot be one
    ├── TaskExists           a task id that is taken
    └── TaskStopped          raised in the generation that somebody has stopped
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask_chatstop.tasks import GenerationTask


class ChatStopError(Exception):
    """Base of every error that this package raises."""


class ConfigurationError(ChatStopError):
    """Say what is wrong with the configuration, and what to set."""


class BackendError(ChatStopError):
    """Report that the store is unreachable, too slow or not set up.

    Raised from the driver's own error; its message holds no password.
    """


class InvalidParam(ChatStopError, ValueError):
    """Refuse a user or task id that cannot be one; answered as 400."""


class TaskExists(ChatStopError):
    """Refuse a task id that is running or was in use a moment ago; answered as 409."""


class TaskStopped(ChatStopError):
    """Leave a generation that somebody has stopped.

    A view need not catch it: the blueprint answers it with an event stream that
    holds nothing but the end of a stopped answer.

    :param task: the task that was stopped.
    """

    def __init__(self, task: "GenerationTask") -> None:
        super().__init__(f"Task {task.id} was stopped.")
        self.task = task

"""The errors of flask_chatstop.

::

    ChatStopError
    ├── ConfigurationError   the configuration is invalid; says what to set
    ├── BackendError         the store did not do what it was asked to
    ├── InvalidParam         a user or task id is invalid
    ├── TaskExists           a task id is taken
    └── TaskStopped          the generation was stopped (in generation/task.py)
"""


class ChatStopError(Exception):
    """Base of every error that this package raises."""


class ConfigurationError(ChatStopError):
    """The configuration is invalid; the message says what to set."""


class BackendError(ChatStopError):
    """The store is unreachable, too slow or not set up.

    Raised from the driver's own error. The message contains no password.
    """


class InvalidParam(ChatStopError, ValueError):
    """A user or task id is invalid; answered with 400."""


class TaskExists(ChatStopError):
    """A task id is running or was in use within the retention; answered with 409."""

"""The errors of flask_chatstop.

::

    ChatStopError
    ├── ConfigurationError   the configuration is invalid; says what to set
    ├── BackendError         the store did not do what it was asked to
    │   └── RecordRefused    the store refuses one record, and goes on with others
    ├── InvalidParam         a user or task id is invalid
    │   └── NotLoggedIn      nobody is logged in
    ├── TaskExists           a task id is taken
    └── TaskStopped          raised in a view: its task was stopped

    SourceStopped            raised in a source: its task was stopped, a BaseException
"""


class ChatStopError(Exception):
    """Base of every error that this package raises."""


class ConfigurationError(ChatStopError):
    """The configuration is invalid; the message says what to set."""


class BackendError(ChatStopError):
    """The store is unreachable, too slow or not set up.

    Raised from the driver's own error. The message contains no password.
    """

    def __str__(self) -> str:
        # A driver may quote what the client has sent, and the text goes to the log.
        text = " ".join(super().__str__().split())
        return "".join(x if x.isprintable() else repr(x)[1:-1] for x in text)


class RecordRefused(BackendError):
    """The store refuses this record, and goes on with others.

    The worker does not take it for an outage. The task runs on, and only the process
    that runs it can stop it.
    """


class InvalidParam(ChatStopError, ValueError):
    """A user or task id is invalid; answered with 400."""


class NotLoggedIn(InvalidParam):
    """The ``user_loader`` returned no user; answered with 401."""


class TaskExists(ChatStopError):
    """A task id is running or was in use within the retention; answered with 409."""


class SourceStopped(BaseException):
    """The task that this code works for was stopped.

    Raised in the source of a stopped task, where it reads a call that was cut, asks for
    one that is refused, or calls ``task.raise_if_stopped()``. Let it pass: like
    ``asyncio.CancelledError`` it is not an ``Exception``, so that no retry and no
    tool loop takes it for a failure. A ``finally`` may save what there is.
    """

    def __init__(self, message: str = "The task was stopped.") -> None:
        super().__init__(message)

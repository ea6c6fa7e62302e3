"""How a generation ended, and telling the app."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from flask import Flask

from flask_chatstop.backends import EndReason
from flask_chatstop.checks import check_returned
from flask_chatstop.generation.usage import Usage
from flask_chatstop.logs import get_logger
from flask_chatstop.signals import send, task_ended

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationEnd:
    """How a generation ended, passed to ``on_end``.

    :param reason: ``finished``, ``stopped``, ``disconnected``, ``failed`` or
        ``timed_out``.
    :param text: the answer as far as it was sent; empty without ``stream_response`` or
        ``chat_response``.
    :param error: what the source raised, if the reason is ``failed``.
    :param duration: seconds since the task began.
    :param calls_cut: how many HTTP calls of the source were open and are hung up on;
        0 if it has finished.
    :param usage: what the source has reported by ``task.report_usage()``, and how much
        was sent.
    :param saved: ``False`` if an ``on_end`` has failed; for the client.
    """

    task_id: str
    user: str
    reason: EndReason
    duration: float
    calls_cut: int = 0
    error: BaseException | None = None
    text: str = ""
    message_id: str | None = None
    conversation_id: str | None = None
    usage: Usage = field(default_factory=Usage)
    saved: bool = True


def tell_app(
    app: Flask,
    task: object,
    end: GenerationEnd,
    callbacks: Iterable[Callable[[GenerationEnd], object]],
) -> bool:
    """Call ``on_end`` and send ``task_ended``, with the app context pushed.

    What a callback raises is logged. An exit, like ``KeyboardInterrupt``, is raised
    when all have been called.

    :returns: whether no callback has failed.
    """
    exits: list[BaseException] = []
    is_saved = True
    with app.app_context():
        for callback in callbacks:
            try:
                check_returned("on_end", callback(end))
            except Exception:
                is_saved = False
                logger.exception("on_end of task %r failed.", end.task_id)
            except BaseException as error:
                exits.append(error)
        send(
            task_ended,
            app,
            task=task,
            reason=end.reason,
            duration=end.duration,
            calls_cut=end.calls_cut,
        )
    if exits:
        raise exits[0]
    return is_saved

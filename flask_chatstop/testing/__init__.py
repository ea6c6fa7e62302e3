"""For the tests of apps, and of backends of their authors' own.

:class:`BackendContract` and :class:`EventLogContract` need pytest and hypothesis:
``pip install pytest hypothesis``. The others need nothing else.
"""

from typing import Any

from flask_chatstop.testing.streams import stop_after
from flask_chatstop.testing.tasks import (
    ALICE,
    BOB,
    NEARLY_ALICE,
    new_record,
    new_worker,
)
from flask_chatstop.testing.waiting import drain, listening, wait_until

try:
    from flask_chatstop.testing.contract import BackendContract
    from flask_chatstop.testing.events import EventLogContract
except ModuleNotFoundError as missing:
    if missing.name not in ("pytest", "hypothesis"):
        raise

    def __getattr__(name: str) -> Any:
        if name in __all__:
            raise ImportError(f"{name} needs `pip install pytest hypothesis`.")
        raise AttributeError(name)


__all__ = [
    "ALICE",
    "BOB",
    "NEARLY_ALICE",
    "BackendContract",
    "EventLogContract",
    "drain",
    "listening",
    "new_record",
    "new_worker",
    "stop_after",
    "wait_until",
]

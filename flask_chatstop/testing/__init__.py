"""For the tests of apps, and of backends of their authors' own.

:func:`stop_after` needs nothing else. :class:`BackendContract` and
:class:`EventLogContract` need pytest and hypothesis: ``pip install pytest hypothesis``.
"""

from typing import Any

from flask_chatstop.testing.streams import stop_after

try:
    from flask_chatstop.testing.contract import (
        ALICE,
        BOB,
        NEARLY_ALICE,
        BackendContract,
        drain,
        listening,
        new_record,
        new_worker,
        wait_until,
    )
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

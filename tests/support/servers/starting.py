"""Waiting for a server that has been started."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from flask_chatstop.testing import wait_until

#: Seconds; a busy machine takes many for what takes one otherwise.
_PATIENCE = 120.0


def wait_until_ready(
    process: "subprocess.Popen[bytes]", is_ready: Callable[[], bool], log: Path
) -> None:
    """Wait until a server is ready.

    :param log: where its output goes, which says why it has ended instead.
    """

    def is_ready_or_ended() -> bool:
        assert process.poll() is None, f"it has ended:\n{log.read_text()}"
        return is_ready()

    wait_until(is_ready_or_ended, _PATIENCE)

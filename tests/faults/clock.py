"""What shifts the clock of a process."""

import shutil
import subprocess
from pathlib import Path

import pytest


def build_clock(directory: Path) -> Path:
    """Build the library that a process has to preload."""
    if not shutil.which("cc"):
        pytest.skip("there is no C compiler to build a wrong clock with")
    library, source = directory / "clock.so", Path(__file__).with_name("wrong_clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", source, "-o", library], check=True)
    return library


class Clock:
    """The clock of the processes that begin with :attr:`environment`.

    :param directory: where every user may read.
    """

    def __init__(self, directory: Path) -> None:
        self._file = directory / "clock"
        self._shift = 0
        self.jump(0)
        self.environment = {
            "LD_PRELOAD": str(build_clock(directory)),
            "CLOCK_FILE": str(self._file),
        }

    def jump(self, seconds: int) -> None:
        """Put the clock forward, or back."""
        self._shift += seconds
        with open(self._file, "r+b" if self._file.exists() else "wb") as file:
            file.write(self._shift.to_bytes(8, "little", signed=True))

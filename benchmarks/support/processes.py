"""What a process holds: threads, descriptors, sockets and memory, as Linux tells."""

import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Holding:
    """What one process holds; ``memory`` is in MiB, shared pages by their share."""

    threads: int
    files: int
    sockets: int
    memory: float

    @classmethod
    def of(cls, pid: int) -> "Holding":
        """Look at a process.

        :raises OSError: there is none.
        """
        proc = Path(f"/proc/{pid}")
        files = []
        for file in (proc / "fd").iterdir():
            with suppress(FileNotFoundError):  # closed since
                files.append(os.readlink(file))
        found = re.search(r"^Pss: +(\d+)", (proc / "smaps_rollup").read_text(), re.M)
        return cls(
            threads=len(os.listdir(proc / "task")),
            files=len(files),
            sockets=sum(file.startswith("socket:") for file in files),
            memory=int(found[1]) / 1024 if found else 0.0,
        )

    def is_within(self, other: "Holding") -> bool:
        """Tell whether this one has no more of anything but memory."""
        mine, others = astuple(self)[:-1], astuple(other)[:-1]
        return all(own <= limit for own, limit in zip(mine, others, strict=True))


def most(pids: Sequence[int]) -> Holding:
    """Give the most of each that one of some processes holds."""
    holdings = []
    for pid in pids:
        with suppress(OSError):  # it has ended
            holdings.append(astuple(Holding.of(pid)))
    return Holding(*map(max, zip(*holdings, strict=True)))


def children(pid: int) -> list[int]:
    """Give the processes that a process has begun and that are there still."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def cpu(pid: int) -> float:
    """Give the seconds of CPU that a process has taken, none if it has ended."""
    # As clock_getcpuclockid(3) does it. /proc/*/stat counts in hundredths of a second.
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def wake_ups(pid: int, seconds: float) -> int:
    """Count for so long how often the threads of a process get a processor."""
    before, count = _switches(pid), 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(min(0.5, seconds))
        now = _switches(pid)
        # A thread that has ended was woken for it.
        count += len(before.keys() - now.keys())
        count += sum(number - before.get(thread, 0) for thread, number in now.items())
        before = now
    return count


def _switches(pid: int) -> dict[str, int]:
    switches = {}
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        with suppress(OSError):  # it has ended
            found = re.findall(r"ctxt_switches:\s+(\d+)", status.read_text())
            switches[status.parent.name] = sum(map(int, found))
    return switches

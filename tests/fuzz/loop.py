"""Attack for so many seconds, and measure."""

import gc
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

from flask_chatstop import MemoryBackend
from tests.fuzz.mutation import Author
from tests.fuzz.roles import roles
from tests.fuzz.target import RETENTION, Counts, Target

#: What a request may seem to leave behind, and what a process may vary by.
BYTES_A_REQUEST, BYTES_OF_NOISE = 50, 8 * 2**20
BLOCKS_A_REQUEST, BLOCKS_OF_NOISE = 0.02, 4_000

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Found(Exception):
    """The attack has found something.

    :param data: the bytes that did it.
    """

    def __init__(self, error: BaseException, data: bytes) -> None:
        super().__init__(f"{error}; the bytes were\n{data!r}")
        self.data = data


@dataclass(frozen=True, slots=True)
class Memory:
    """What a process uses: bytes that are resident, and objects, in blocks."""

    resident: int
    blocks: int

    @classmethod
    def now(cls) -> "Memory":
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(pages * _PAGE, sys.getallocatedblocks())


@dataclass(frozen=True, slots=True)
class Figures:
    """What an attack did and what it left behind, from its warm-up's end on."""

    seed: int
    seconds: float
    counts: Counts
    before: Memory
    after: Memory

    @property
    def connections_a_second(self) -> float:
        return self.counts.connections / self.seconds

    @property
    def is_flat(self) -> bool:
        """Whether no request has left anything behind."""
        count = self.counts.connections
        return (
            self.after.resident - self.before.resident
            <= BYTES_A_REQUEST * count + BYTES_OF_NOISE
            and self.after.blocks - self.before.blocks
            <= BLOCKS_A_REQUEST * count + BLOCKS_OF_NOISE
        )

    def __str__(self) -> str:
        counts, mib = self.counts, 2**20
        statuses = ", ".join(f"{n} x {s}" for s, n in sorted(counts.statuses.items()))
        return (
            f"seed {self.seed}: {counts.connections} connections in"
            f" {self.seconds:.0f} s, {self.connections_a_second:.0f} a second;"
            f" {counts.refused_by_server} not HTTP; answers {statuses};"
            f" {counts.authorised_stops} tasks stopped, each by a request with the"
            f" right to it; memory {self.before.resident / mib:.1f} MiB and"
            f" {self.before.blocks} blocks before, {self.after.resident / mib:.1f} MiB"
            f" and {self.after.blocks} blocks after"
        )


def run(seconds: float, seed: int, target: Target | None = None) -> Figures:
    """Attack an app for so many seconds, after at most 30 to warm up.

    :param target: with tasks in memory unless given.
    :raises Found: something does not hold.
    """
    target = target or Target(MemoryBackend(retention=RETENTION))
    author = Author(Random(seed), roles())

    def attack_for(seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            attack(target, author)

    try:
        attack_for(min(seconds / 5, 30.0))
        target.counts = Counts()
        before, began = Memory.now(), time.monotonic()
        attack_for(seconds)
        took = time.monotonic() - began
        return Figures(seed, took, target.counts, before, Memory.now())
    finally:
        target.close()


def attack(target: Target, author: Author) -> None:
    """Attack an app with one connection.

    :raises Found: something does not hold.
    """
    data = author.write()
    try:
        target.attack(data)
    except Exception as error:
        raise Found(error, target.sent) from error

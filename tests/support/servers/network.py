"""A network namespace joined to this host by a link that can be cut."""

import ctypes
import itertools
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_CLONE_NEWNET = 0x40000000
_numbers = itertools.count()


class Network:
    """Another host, as far as TCP can tell: what the link carried is lost when cut."""

    def __init__(self, name: str, number: int) -> None:
        self._name = name
        self._near, self._far = f"{name}a", f"{name}b"
        # Of the block for tests of networks, RFC 2544; one of 4 addresses each.
        block = f"198.18.{number // 64 % 256}"
        self.host = f"{block}.{number % 64 * 4 + 1}"
        self.address = f"{block}.{number % 64 * 4 + 2}"

    def set_up(self) -> None:
        _ip("netns", "add", self._name)
        pair = ["type", "veth", "peer", "name", self._far, "netns", self._name]
        _ip("link", "add", self._near, *pair)
        _ip("addr", "add", f"{self.host}/30", "dev", self._near)
        _ip("-n", self._name, "addr", "add", f"{self.address}/30", "dev", self._far)
        _ip("link", "set", self._near, "up")
        self.mend()

    def tear_down(self) -> None:
        _ip("netns", "del", self._name)
        # The namespace lives on in sockets that are still open, and its link with it.
        subprocess.run(["ip", "link", "del", self._near], stderr=subprocess.DEVNULL)

    def cut(self) -> None:
        """Lose every packet in both directions, without a word to either end."""
        _ip("-n", self._name, "link", "set", self._far, "down")

    def mend(self) -> None:
        """Let packets through again."""
        _ip("-n", self._name, "link", "set", self._far, "up")

    def socket(self) -> socket.socket:
        """Open a TCP socket on the other side of the link."""
        opened: list[socket.socket] = []

        # A thread may be in another namespace than its process, and a socket stays
        # in the one that it was opened in.
        def open_there() -> None:
            libc = ctypes.CDLL(None, use_errno=True)
            with open(f"/run/netns/{self._name}") as namespace:
                if libc.setns(namespace.fileno(), _CLONE_NEWNET) == 0:
                    opened.append(socket.socket())

        thread = threading.Thread(target=open_there)
        thread.start()
        thread.join()
        assert opened, "the namespace could not be entered"
        return opened[0]


@contextmanager
def network() -> Iterator[Network]:
    """Set up another host for the length of a with block."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("a network to be cut needs root and iproute2")
    number = os.getpid() * 8 + next(_numbers)
    other = Network(f"cs{os.getpid()}n{number % 1000}", number % 16384)
    try:
        other.set_up()
        yield other
    finally:
        other.tear_down()


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")

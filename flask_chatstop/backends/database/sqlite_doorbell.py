"""The doorbell of a SQLite file: a Unix datagram socket beside it for each listener.

A socket in the directory of the file is found by whoever finds the file, from another
container too. It is bound under another name and then renamed, and its name is removed
before it is closed. So a socket of its final name refuses only if its process was
killed, and may then be removed.
"""

import errno
import hashlib
import os
import socket
from contextlib import ExitStack, closing, suppress

from flask_chatstop.backends.database.socket_folder import (
    LONGEST_ADDRESS,
    NEW,
    Folder,
    unix_socket,
)

#: How many bytes of the database's file name a socket's name begins with.
_LONGEST_STEM = 40
#: Bytes: more than any news take.
_LONGEST_RING = 16 * 1024
#: How many rings more() returns at most.
_MANY = 100


class Doorbell:
    """The socket of one listener.

    It is rung by those who stop the tasks of a worker, or write what others follow.

    :param path: the absolute path of the database.
    :raises OSError: no socket can be bound there, or it cannot be rung.
    """

    def __init__(self, path: str, listener: str) -> None:
        names = _Names(path)
        self._name = names.of(listener)
        with ExitStack() as stack:
            self._socket = unix_socket()
            stack.callback(self._socket.close)
            self._folder = Folder(os.fsencode(os.path.dirname(path)))
            stack.callback(self._folder.close)
            self._bind(os.stat(path))
            stack.callback(self.remove)
            self._folder.remove_dead(names.beginning)
            # Whether it can be rung shows only here. What comes first may be the ring
            # of a stop instead: the listener's first look finds that.
            with closing(Ringer(path)) as ringer:
                ringer.ring(listener)
            try:
                self._socket.recv(_LONGEST_RING)
            except BlockingIOError:
                # If somebody has removed its name, the listener's first look finds that
                # and opens another.
                if self.is_there:
                    raise
            stack.pop_all()

    @property
    def is_there(self) -> bool:
        """Whether its name still leads to a socket."""
        return self._folder.file(self._name) is not None

    def wait(self, seconds: float) -> str:
        """Wait for a ring, and return its news: "" if it has none or none comes."""
        self._socket.settimeout(seconds)
        try:
            return _text(self._socket.recv(_LONGEST_RING))
        except TimeoutError:
            return ""

    def more(self) -> list[str]:
        """Return the news of the rings that wait in the queue."""
        rings: list[bytes] = []
        self._socket.setblocking(False)
        with suppress(BlockingIOError):
            while len(rings) < _MANY:
                rings.append(self._socket.recv(_LONGEST_RING))
        return [_text(news) for news in rings if news]

    def remove(self) -> None:
        """Remove its name, unless a new doorbell of this listener has it."""
        if self._folder.file(self._name) == self._file:
            self._folder.remove(self._name)

    def close(self) -> None:
        """Remove its name and close it."""
        self.remove()
        self.leave()

    def leave(self) -> None:
        """Close it in this process only: after a fork, the parent uses it."""
        if self._socket.fileno() >= 0:
            # Not close(): under gevent, that closes nothing while a greenlet waits.
            os.close(self._socket.detach())
            self._folder.close()

    def _bind(self, database: os.stat_result) -> None:
        new = self._name + NEW
        self._folder.remove(new)
        # On Linux, the file gets the mode that the socket has.
        with suppress(OSError):
            os.fchmod(self._socket.fileno(), 0o600)
        self._socket.bind(self._folder.address(new))
        try:
            self._folder.share_as(database, new)
            self._file = self._folder.file(new)
            self._folder.rename(new, self._name)
        except BaseException:
            self._folder.remove(new)
            raise


class Ringer:
    """Rings the listeners of one database.

    :param path: the absolute path of the database.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._folder = os.fsencode(os.path.dirname(path))
        self._names = _Names(path)
        self._socket: socket.socket | None = None

    def ring(self, listener: str, news: str = "") -> None:
        """Ring a listener. One that has no doorbell looks at the file by itself.

        :param news: the task to stop, say. Without, the listener only wakes.
        """
        name = self._names.of(listener)
        address = os.path.join(self._folder, name)
        try:
            if len(address) <= LONGEST_ADDRESS:
                self._send(news, address)
            else:
                with closing(Folder(self._folder)) as folder:
                    self._send(news, folder.address(name))
        except ConnectionRefusedError:
            with suppress(OSError), closing(Folder(self._folder)) as folder:
                folder.remove_dead(name)
        except OSError:
            pass  # there is no doorbell, or its queue is full

    def __del__(self) -> None:
        self.close()  # that of an engine which nobody has closed

    def close(self) -> None:
        """Close the socket; the next ring opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, news: str, address: bytes) -> None:
        if self._socket is None:
            self._socket = unix_socket()
        try:
            self._socket.sendto(news.encode(), address)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            self._socket.sendto(b"", address)  # macOS takes 2 KiB


class _Names:
    """The names of a database's sockets."""

    def __init__(self, path: str) -> None:
        self._file = os.fsencode(os.path.basename(path))
        self.beginning = self._file[:_LONGEST_STEM] + b"-ring-"

    def of(self, listener: str) -> bytes:
        """Return the name of a listener's socket."""
        # A hash, since an id may hold anything.
        text = self._file + b"\0" + listener.encode()
        hashed = hashlib.blake2b(text, digest_size=16).hexdigest()
        return self.beginning + hashed.encode()


def _text(news: bytes) -> str:
    return news.decode(errors="replace")

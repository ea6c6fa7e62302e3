"""The doorbell of a SQLite file: a Unix datagram socket beside it for each worker.

A socket in the directory of the file is found by whoever finds the file, from another
container too. It is bound under another name and then renamed, and its name is removed
before it is closed. So a socket of its final name refuses only if its process was
killed, and may then be removed.
"""

import hashlib
import os
import socket
import stat
import time
from contextlib import ExitStack, closing, suppress

#: macOS takes no longer address; Linux takes 4 bytes more.
_LONGEST_ADDRESS = 103
#: So much of the file's name is in that of a socket.
_LONGEST_STEM = 40
#: Bytes: more than any task id takes.
_LONGEST_RING = 2048
#: How many rings are taken at once.
_MANY = 100
#: A long path is told by its open directory.
_PROC = b"/proc/self/fd"
_NEW = b".new"
#: Seconds in which a socket of a new name gets its final one.
_NEW_FOR = 60.0


class Doorbell:
    """The socket of one worker, which is rung by those who stop its tasks.

    :param path: the absolute path of the database.
    :raises OSError: no socket can be bound there, or it cannot be rung.
    """

    def __init__(self, path: str, worker_id: str) -> None:
        names = _Names(path)
        self._name = names.of(worker_id)
        with ExitStack() as stack:
            self._folder = _Folder(os.fsencode(os.path.dirname(path)))
            stack.callback(self._folder.close)
            self._socket = _unix_socket()
            stack.callback(self._socket.close)
            self._bind(os.stat(path))
            stack.callback(self.remove)
            self._folder.remove_dead(names.beginning)
            with closing(Ringer(path)) as ringer:
                ringer.ring(worker_id)
            self._socket.recv(_LONGEST_RING)
            stack.pop_all()

    @property
    def is_there(self) -> bool:
        """Whether it can be found."""
        return self._folder.file(self._name) is not None

    def wait(self, seconds: float) -> str:
        """Wait for a ring, and return its task id: "" if it has none or none comes."""
        self._socket.settimeout(seconds)
        try:
            return _text(self._socket.recv(_LONGEST_RING))
        except TimeoutError:
            return ""

    def more(self) -> list[str]:
        """Return the task ids of the rings that have come meanwhile."""
        rings: list[bytes] = []
        self._socket.setblocking(False)
        with suppress(BlockingIOError):
            while len(rings) < _MANY:
                rings.append(self._socket.recv(_LONGEST_RING))
        return [_text(task_id) for task_id in rings if task_id]

    def remove(self) -> None:
        """Remove its name, unless a new doorbell of the worker has taken it."""
        if self._folder.file(self._name) == self._file:
            self._folder.remove(self._name)

    def close(self) -> None:
        """Remove its name and close it."""
        self.remove()
        self.leave()

    def leave(self) -> None:
        """Close it in this process, and let those that share it go on."""
        if self._socket.fileno() >= 0:
            # Not close(): under gevent, that closes nothing while a greenlet waits.
            os.close(self._socket.detach())
            self._folder.close()

    def _bind(self, database: os.stat_result) -> None:
        new = self._name + _NEW
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


class _Folder:
    """A directory that stays open, so that it may be moved.

    :raises OSError: it cannot be opened.
    """

    def __init__(self, path: bytes) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def close(self) -> None:
        os.close(self._fd)

    def address(self, name: bytes) -> bytes:
        """Return the address of a socket."""
        address = os.path.join(self._path, name)
        if len(address) <= _LONGEST_ADDRESS:
            return address
        return b"%b/%d/%b" % (_PROC, self._fd, name)

    def file(self, name: bytes) -> tuple[int, int] | None:
        """Return which file has a name."""
        with suppress(OSError):
            found = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
            return found.st_dev, found.st_ino
        return None

    def rename(self, old: bytes, new: bytes) -> None:
        os.rename(old, new, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def remove(self, name: bytes) -> None:
        """Remove a name if it is there."""
        with suppress(OSError):
            os.unlink(name, dir_fd=self._fd)

    def remove_dead(self, beginning: bytes) -> None:
        """Remove the sockets with names of this beginning that no process has open."""
        for found in map(os.fsencode, os.listdir(self._fd)):
            if found.startswith(beginning):
                with suppress(OSError):
                    self._remove_if_dead(found)

    def share_as(self, database: os.stat_result, name: bytes) -> None:
        """Let those ring who may write to the database, and nobody else."""
        uid = database.st_uid if os.geteuid() == 0 else -1
        with suppress(OSError):  # of a group that the process is not in
            os.chown(name, uid, database.st_gid, dir_fd=self._fd, follow_symlinks=False)
        mode = stat.S_IMODE(database.st_mode) & 0o666
        if os.stat(name, dir_fd=self._fd).st_gid != database.st_gid:
            mode &= ~0o060
        os.chmod(name, mode | 0o200, dir_fd=self._fd)

    def _remove_if_dead(self, name: bytes) -> None:
        found = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        is_new = name.endswith(_NEW) and time.time() - found.st_ctime < _NEW_FOR
        if not stat.S_ISSOCK(found.st_mode) or is_new:
            return
        with _unix_socket() as sock:
            try:
                sock.connect(self.address(name))
            except ConnectionRefusedError:
                os.unlink(name, dir_fd=self._fd)


class Ringer:
    """Rings the workers of one database.

    :param path: the absolute path of the database.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._folder = os.fsencode(os.path.dirname(path))
        self._names = _Names(path)
        self._socket: socket.socket | None = None

    def ring(self, worker_id: str, task_id: str = "") -> None:
        """Ring a worker; do nothing if it has no doorbell, and finds stops by itself.

        :param task_id: the task to stop. Without one, the worker only wakes.
        """
        name = self._names.of(worker_id)
        address = os.path.join(self._folder, name)
        try:
            if len(address) <= _LONGEST_ADDRESS:
                self._send(task_id, address)
            else:
                with closing(_Folder(self._folder)) as folder:
                    self._send(task_id, folder.address(name))
        except ConnectionRefusedError:
            with suppress(OSError), closing(_Folder(self._folder)) as folder:
                folder.remove_dead(name)
        except OSError:
            pass  # there is no doorbell, or its queue is full

    def close(self) -> None:
        """Close the socket; the next ring opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, task_id: str, address: bytes) -> None:
        if self._socket is None:
            self._socket = _unix_socket()
        self._socket.sendto(task_id.encode(), address)


class _Names:
    """The names of the sockets beside a database."""

    def __init__(self, path: str) -> None:
        self._file = os.fsencode(os.path.basename(path))
        self.beginning = self._file[:_LONGEST_STEM] + b"-ring-"

    def of(self, worker_id: str) -> bytes:
        """Return the name of a worker's."""
        # A hash, since an id may hold anything.
        text = self._file + b"\0" + worker_id.encode()
        hashed = hashlib.blake2b(text, digest_size=16).hexdigest()
        return self.beginning + hashed.encode()


def _unix_socket() -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise OSError("there are no Unix sockets here")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.setblocking(False)
    return sock


def _text(task_id: bytes) -> str:
    return task_id.decode(errors="replace")

"""A directory with Unix datagram sockets in it."""

import os
import socket
import stat
import time
from contextlib import suppress

#: Bytes that an address may have on macOS; Linux takes 4 more.
LONGEST_ADDRESS = 103
#: Stands for the path of an open directory in an address that would be too long.
_PROC = b"/proc/self/fd"
#: The end of a socket's name until it is renamed.
NEW = b".new"
#: Seconds after which a socket that still has such a name is left over from a process
#: that was killed.
_NEW_FOR = 60.0


class Folder:
    """A directory that stays open, so that it may be moved.

    :raises OSError: it cannot be opened.
    """

    def __init__(self, path: bytes) -> None:
        self._path = path
        # Windows has no such flag, and opens no directory.
        self._fd = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))

    def close(self) -> None:
        os.close(self._fd)

    def address(self, name: bytes) -> bytes:
        """Return the address of a socket."""
        address = os.path.join(self._path, name)
        if len(address) <= LONGEST_ADDRESS:
            return address
        return b"%b/%d/%b" % (_PROC, self._fd, name)

    def file(self, name: bytes) -> tuple[int, int] | None:
        """Return the device and the inode of the file of this name, if any."""
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
            mode &= ~0o060  # of a group that the database does not name
        os.chmod(name, mode | 0o200, dir_fd=self._fd)  # the process rings itself

    def _remove_if_dead(self, name: bytes) -> None:
        found = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        # While the system binds it, a socket that lives refuses as well.
        is_new = name.endswith(NEW) and time.time() - found.st_ctime < _NEW_FOR
        if not stat.S_ISSOCK(found.st_mode) or is_new:
            return
        with unix_socket() as sock:
            try:
                sock.connect(self.address(name))
            except ConnectionRefusedError:
                os.unlink(name, dir_fd=self._fd)


def unix_socket() -> socket.socket:
    """Return a datagram socket that does not block.

    :raises OSError: this system has none.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise OSError("there are no Unix sockets here")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.setblocking(False)
    return sock

"""A process with what Windows has: it runs ``flask`` with the arguments that follow.

The names that Python does not have on Windows are taken away before the package, Flask
or a driver is imported. ``sys.platform`` is ``win32`` for them too. ``os.name`` stays:
the paths are those of this system.
"""

import _socket
import errno
import importlib
import os
import select
import signal
import sys
import sysconfig
import time

#: https://docs.python.org/3/library/os.html and the like, "Availability".
_NOT_IN_OS = (
    *("fork", "forkpty", "register_at_fork", "kill", "killpg", "getuid", "geteuid"),
    *("getgid", "getpgid", "setsid", "uname", "wait", "waitid", "sched_getaffinity"),
    *("pread", "pwrite", "sendfile", "set_blocking", "posix_spawn", "sysconf"),
    *(
        "getloadavg",
        "O_DIRECTORY",
        "fchmod",
        "fchown",
        "chown",
        "mkfifo",
        "eventfd",
        "memfd_create",
    ),
)
_NOT_IN_SOCKET = (
    *("AF_UNIX", "TCP_USER_TIMEOUT", "MSG_DONTWAIT", "MSG_NOSIGNAL", "SO_REUSEPORT"),
    *("SO_PEERCRED", "SCM_RIGHTS", "CMSG_LEN", "CMSG_SPACE", "socketpair"),
)
_NOT_IN_SIGNAL = (
    *("SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGPIPE", "SIGALRM"),
    *("SIGQUIT", "SIGSTOP", "alarm", "setitimer", "pthread_kill", "sigwait"),
)
_NO_MODULES = (
    *("fcntl", "grp", "pwd", "resource", "termios", "tty", "syslog", "_posixshmem"),
    *("readline", "pty", "posix_ipc"),
)
#: They look at ``sys.platform`` to import modules that only Windows has.
_OF_THIS_SYSTEM = ("asyncio", "click", "subprocess", "ctypes.util", "uuid", "platform")


def pretend() -> None:
    """Take away what Windows does not have."""
    for name in ("poll", "epoll", "kqueue"):
        _take(select, name)
    # Before the module socket is imported, which copies these names.
    for name in _NOT_IN_SOCKET:
        _take(_socket, name)
    for name in _OF_THIS_SYSTEM:
        importlib.import_module(name)
    sysconfig.get_config_vars()  # kept from then on
    for name in _NOT_IN_SIGNAL:
        _take(signal, name)
    for name in _NOT_IN_OS:
        _take(os, name)
    _take(time, "tzset")
    for name in _NO_MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    os.dup = _dup
    sys.platform = "win32"


def _take(module: object, name: str) -> None:
    if hasattr(module, name):
        delattr(module, name)


def _dup(fd: int, /) -> int:
    """Refuse to copy a socket, which Windows keeps apart from files."""
    raise OSError(errno.EBADF, "Bad file descriptor")


if __name__ == "__main__":
    assert "socket" not in sys.modules, "the names of the module were copied already"
    pretend()
    from flask.cli import main

    main()
